// What the page does more with JavaScript: a file can be dropped on the form, and what is in the
// text area is counted. Nothing here is needed.
"use strict";

const form = document.getElementById("reviews");
const text = document.getElementById("text");
const file = document.getElementById("file");
const count = document.getElementById("count");

function showCount() {
  const lines = text.value.split("\n").filter((line) => line.trim()).length;
  const byLine = form.elements.split.value === "lines";
  let words = `${text.value.length.toLocaleString("en")} characters`;
  if (byLine) words = lines === 1 ? "1 review" : `${lines.toLocaleString("en")} reviews`;
  else if (lines > 1) words += `, ${lines} lines read as one review`;
  if (file.files.length) words = file.files[0].name;
  count.textContent = words;
  count.hidden = !file.files.length && !text.value.trim();
}

for (const kind of ["dragenter", "dragover"]) {
  form.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.add("dropping");
  });
}
form.addEventListener("dragleave", (event) => {
  if (!form.contains(event.relatedTarget)) form.classList.remove("dropping");
});
form.addEventListener("drop", (event) => {
  form.classList.remove("dropping");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  file.files = event.dataTransfer.files;
  showCount();
});
form.addEventListener("input", showCount);
showCount();
