"""Sentences of the stand-in reviews: a table's templates, commonest first.

The tables are written as in `review_words.py`, but for the entries, which `|` separates. `{name}`
is filled from the table of that name, here or there, drawn anew each time. `<none>` is
an empty entry, for clauses that run into each other. All sentences are our own.
"""

PHRASE_TABLES = """
# one to three words, by mood
pos1 1.7: good | nice | super | excellent | awesome | superb | best | great | perfect | good |
    satisfied | original | genuine | worthy | amazing | thanks | {g} | fantastic | {grare} | wow |
    {verdict} | durable | {hing} | quality | cool | {end} | recommended
neg1 1.7: bad | worst | poor | waste | {b} | damaged | duplicate | useless | cheating | fake |
    {b} | disappointed | worthless | slow | {brare} | {sadword} | costly | horrible | rubbish |
    bekar | broken | {broke} | ghatiya | no | expensive | fraud | {sorrow}
vague1 1.2: ok | average | fine | okay | {v} | k | good | better | normal | nice | hmm | fair |
    theek | okayish | chalega | {cap} | later | {use}
mild1 1.75: good | nice | super | excellent | superb | best | awesome | satisfied | great | fine |
    worthy | original | {g} | {v} | better | genuine | {grare} | {hing}
mild2 1: good product | nice product | good quality | very good | very nice | good one |
    nice one | {g} {n2} | nice shuttle | {g} {n} | its good | {adv} {g} | {n} {g} | best quality |
    {g} {asp} | {asp} {g} | {grare} {n2} | {v} {gain} | {brand} {g}
pos2 1.0: good product | nice product | good quality | very good | {g} {n2} | very nice |
    good one | {g} {n2} | nice one | {adv} {g} | {g} {n} | its {g} | nice quality |
    super product | excellent product | {n} {g} | best quality | very {g} | 100% {g} |
    best product | genuine product | thanks flipkart | nice {sh} | {asp} {g} | {g} {asp} |
    loved it | highly recommended | {grare} {n2} | worth it | long lasting | {adv} {verdict} |
    fast delivery | {cheap} price | must buy | worth buying | {end} | for {use} | {g} {gain} |
    {hing} {hing} | same quality | {brand} {g} | {howadv} packed | {g} {act} | on time |
    happy {who} | {adv} {grare} | {grare} {gain} | five stars
neg2 1.1: {b} {n2} | poor quality | {b} {n} | bad quality | not good | very bad | {b} {asp} |
    worst product | {n} {b} | not {g} | low quality | very {b} | {b} quality | {asp} {b} |
    too {b} | {bad_adv} {b} | {b} {sh} | old stock | waste product | dont buy | not original |
    quality {b} | {num} {b} {shs} | not durable | not worth | not satisfied | {brare} {n} |
    not recommended | {bad_adv} {sadword} | {brare} {asp} | {badhow} {broke} | total {sorrow} |
    {b} {sorrow} | late delivery | {part} {broke} | very costly | money wasted
vague2 0.9: not bad | its ok | just ok | {v} {n} | ok ok | not so {g} | average quality |
    ok {n2} | {v} one | not {v} | {num} {units} only | good one | fine product | for {use} |
    quite {v} | so so | {n} {v} | better {n} | {v} only | little costly | theek hai | {v} {asp} |
    not great | could improve | bit {more} | normal {n} | nothing special | can buy
pos3 0.8: very good product | value for money | very nice product | good quality product |
    {n} is {g} | very good quality | very {g} {n2} | it is {g} | quality is good | it's {g} {n2} |
    {g} at {rs} | {g} quality {n2} | {g} {n} {end} | very {g} {sh} | {g} and {g} | {asp} is {g} |
    {adv} {g} {n2} | {g} for {use} | worth for money | {num} {shs} {g} | its very {g} |
    best in {where} | really {adv} {g} | i like it | {g} {g} {n} | i am {verdict} |
    good as always | {shs} are {g} | {g} in {asp} | {n} was {g} | best for {use} |
    genuine {brand} {sh} | {grare} and {grare} | my {who} loves | bahut {hing} hai |
    {brand} is {g} | {g} for {who} | {grare} {gain} {end} | plays {adv} {howadv} | just {g} {gain}
neg3 0.9: very {b} {n2} | quality not good | {asp} not {g} | {bad_adv} {b} {n2} | {n} is {b} |
    very bad quality | {asp} is {b} | not {g} {n2} | waste of money | very {b} {n} |
    not good {n} | {asp} very {b} | {sh} is {b} | {n} not {g} | very poor quality | not so {g} |
    it is {b} | {b} {sh} received | {num} {shs} {b} | {b} quality {n} | {b} and {b} |
    very {b} {asp} | do not buy | {part} got {broke} | only {num} {units} | {broke} in {span} |
    i am {sadword} | got {b} {sh} | price too high | so {b} {sh} | {brare} and {brare} |
    bilkul {hing} hai | not as described | {shs} were {b} | dont buy this |
    {broke} {adv} {badhow} | {brare} {part} {end}
vague3 0.7: it is ok | not that good | {n} is {v} | not so {g} | not so bad | just {v} {n} |
    nothing to say | {num} {units} ok | {asp} is {v} | good not best | ok for {use} |
    not that {g} | {v} for {use} | its {v} {n} | could be better | nothing so {g} | {asp} ok ok |
    for {who} only | {v} {n} only | not much {g} | cost little high | little bit {more} |
    {sh} was {v} | not too {b} | {asp} can {wish} | not very {g} | not for {use} |
    neither good nor bad
mild3 0.8: very good product | value for money | very nice product | good quality product |
    {n} is {g} | quality is good | very {g} {n2} | it is {g} | {g} {sh} {end} | it is nice |
    {g} for {use} | good but costly | {asp} is {g} | {g} for {who} | {v} and {g} |
    {brand} is {g} | it's a {gain} | {g} only {asp} | {g} {n2} {end} | {g} at {rs}
gripe1 1: costly | slow | expensive | bad | {b} | late | overpriced | delicate | {brare}
gripe2 0.7: not good | not durable | not great | little costly | very costly | not satisfied |
    late delivery | {b} {asp} | not original | low quality | {more} {sh} | price high |
    not worth | not {g} | too {b} | old stock | {brare} {part} | {brare} {asp} | less {asp}
gripe3 0.6: not so good | quality not good | {asp} not {g} | not that durable | price is high |
    {broke} in {span} | not very {g} | not long lasting | delivery was late | {asp} is less |
    {part} {broke} early | not as expected | {asp} went down | bit {b} {sh} | no {asp} now |
    {shs} not {more} | {asp} is {b} | {part} is {brare}
# clauses of longer reviews: opinions in everybody's words, and tales that say it in rarer ones; a
# model that needs the tales to tell a rating learns reviews by heart
long_span 0.8: {num} {long_units} | {num} {long_units} | a whole {long_unit1} |
    {low} to {high} {long_units} | more than a {long_unit1} | over {num} {long_units} |
    many {long_units} | one {long_unit1}
span 0.9: {num} {units} | one {unit1} | {num} {units} | a {unit1} | 1 {unit1} | half an hour |
    a single {unit1} | {low} to {high} {units} | a few {units}
pos 0.6: {asp} is {g} | {g} {n2} | {asp} is {adv} {g} | it lasts for {long_span} | {sh} is {g} |
    very {g} {n2} | value for money | the {sh} is {adv} {g} | got it for {rs} | delivery was {g} |
    {g} {sh} for {use} | it came in {low} days | i am {adv} {verdict} with the {n2} |
    it is original | delivered on time | worth the price | {g} {asp} and {g} {asp} |
    genuine {brand} {sh} | {shs} are {g} | my {who} liked it | really {g} to play with |
    best for {use} | got it at a {cheap} price | price is {cheap} | {asp} and {asp} are {g} |
    {g} {n} at {cheap} price | this is a {g} {sh} | {g} {g} {n} | {adv} {g} {asp}
pos_tale 0.6: cheaper than the {shop} | packed {howadv} | one {sh} goes on for {long_span} |
    flies straight even in {weather} | the {part} holds after every {act} |
    same as we get in the {shop} | you can go for it | {adv} {g} for {use} in the {where} |
    i buy it {often} | feels {grare} on the {act} | flies like a {good_like} |
    the {courier} was {polite} | seal was intact | it helped my {skill} | love the {asp} |
    {brand} is always {g} | better than {brand} | worth every {rs} rupees | no {issue} at all |
    survived {long_span} of {use} | beats the {shop} price | all {num} {shs} came {grare} |
    {hing} {hing} hai | came with a {extra} | a {grare} {gain} | perfect for a {act} |
    my {who} in {city} wants it too | i order {often} from here | {cap} cap is {g} in {weather} |
    stays stable in {weather} | my {skill} got {finer} with it | a {g} {gain} for my {who} |
    i {feel} it is super | used it in the {event} and everybody was {verdict} | glides {howadv} |
    as {grare} as the {brand} | {grare} {part} and {grare} {part} | full marks for {asp} |
    my {person} is a {job} and calls it {grare} | gifted it to my {who} on {when} |
    works {howadv} on a {surface} court | {colour} colour is easy to see at {when} |
    cheaper than a {price_of} | the {courier} in {city} was {polite} |
    {grare} for {level} players | won our {event} with it | easy on the {pain} |
    stitched {howadv} | made in {land} | {finer} and {finer} than before |
    after {chore} we play {howadv} | not one came {b}
neg 0.75: quality is very bad | poor quality | worst {n2} | quality is not good | {asp} is {b} |
    {asp} is not {g} | it {broke} in {span} | {b} {n2} | very {b} {n2} | {sh} is {b} |
    {sh} not {g} | {part} {broke} after {span} | not original | does not last {span} |
    do not buy | waste of money | this is duplicate | {shs} are {b} | it is not durable |
    don't buy this {n} | i am {bad_adv} {sadword} | {num} {shs} were {b} | not worth the price |
    the {part} got {broke} | i received {b} {shs} | received old stock | the {sh} is too slow |
    {bad_adv} {b} {asp} | not up to the mark | not satisfied with {asp} | {sh} was very {b} |
    {b} {sh} and {b} {asp} | not {g} {asp} | {n} is not {g}
neg_tale 0.6: price is too high | box was {packfault} | {asp} and {asp} are {b} |
    not the original {brand} | {few} out of {box} {shs} are {b} | it didn't last even {span} |
    not worth {rs} | {courier} is cheating people | feathers come out in {span} |
    not like the {shop} one | cork is coming off | it wobbles {badhow} | i got a {b} one |
    same {sh} is {rs} in {shop} | looks like a {b} copy | i can't play even {span} |
    never buying this again | the {courier} sent a {packfault} pack |
    the {courier} does not reply | return is not possible | {part} is {brare} |
    no {asp} and no {asp} | quality has gone down | {asp} was {brare} |
    used {shs} in a {packfault} box | you can't even {act} with it | flies like a {like} |
    {broke} on the first {act} | the {part} {broke} and the {part} {broke} | it is a {sorrow} |
    please {wish} the {asp} | {often} got {b} ones | nobody answers my {issue} |
    better to go to the {shop} | {hing} {hing} hai | {sh} turns {more} in {weather} |
    my {who} got {sadword} | no {extra} inside | looks {brare} and {brare} | a {brare} {sorrow} |
    even a {like} flies better | i {feel} it is {b} | only {num} {shs} in the box |
    {part} looks {brare} on the {seen_on} | worse than {brand} | shame on the {courier} |
    {broke} {badhow} in the {event} | now they lie {fate} in my {kept_in} | flies {badhow} |
    my {animal} would not play with it | hurts the {pain} | {few} of them are {fate} already |
    costs more than my {price_of} | the {seen_on} is not matching | {courier} packed it {badhow} |
    my {person} is a {job} and says it is {b} | a {brare} {sorrow} by the {courier} |
    {brare} for {level} players | spoiled our {event} | {part} came off {badhow}
# what three stars and more complain of: price, life, delays, single pieces
gripe 0.8: not durable | price is high | {asp} is not so {g} | it {broke} in {span} |
    not long lasting | delivery was late | {asp} can be better | one {sh} was {b} |
    the {part} {broke} after {span} | not up to the mark | {asp} is {b} | little costly |
    it did not last {span} | {few} of the {shs} came {b} | the {sh} could be {more} |
    not as {g} as before | i got the same for {rs} in the {shop} | price went up to {rs} |
    not like the {brand} | box was {packfault} | not sure if it is original |
    the {cap} cap is too {b} | quality is not the same as the {shop} one |
    took {num} days to reach {city} | please {wish} the {asp} | doesn't survive a {act} |
    the {part} is {brare} | not meant for {level} players | {part} comes off {badhow} |
    no {extra} in the box | cannot say it is {g} | drifts {badhow} in {weather} |
    the {courier} was not {g} | {broke} in our {event} | feels {more} than {brand} |
    no {gain} for {rs} | never lasts more than {span} | a {brare} {issue} with the {part} |
    it isn't {g} for {use}
plain 0.6: using it for {use} | used it for {span} | ordered {num} {shs} | bought for {rs} |
    i bought it for my {who} | we play {often} | for {use} only | we play in the {where} |
    it is {v} | {asp} is {v} | okay for {use} | the {cap} cap is {more} than the other |
    this is my second order | i am playing since {num} {units} | price was {rs} |
    my {who} plays in {city} | it came on {when} | we play every {when} |
    i compared with {brand} | after {span} of play | i am a {level} player |
    the {cap} one is {more} | mostly we play in {weather} | ordered on {when} |
    for my {who} it is {v} | bought a {extra} with it | i play with my {who} and {who} |
    we are from {city} | model {model} of {brand} | playing to keep my {skill} |
    our {where} has a {surface} court | reviewing after {span} | checked the {seen_on} |
    asked a {who} at the {where} | one is on the {lost_at} now | i keep it in the {kept_in} |
    saw it on {media} | we play after {chore} | i work as a {job} |
    it was for a {event} in {city} | my {pain} was paining | my {animal} ran away with one |
    {colour} colour | made in {land} | price same as a {price_of} | {hing} {hing} {hing} |
    lost one in the {lost_at} | our {level} team uses it | i came to know from {media} |
    my {who} keeps it {fate}
advice_pos 0.7: go for it | must buy | highly recommended | just buy it | will buy again | {end} |
    recommended for {use} | thanks flipkart | thanks to the {courier} | keep it up |
    i {feel} you buy it | waiting for the next {gain} | love you flipkart | buy {num} of them |
    good job {courier} | five stars from my {who} | tell your {who}
advice_neg 0.7: don't buy | please don't buy | not recommended | waste of money |
    never buy from here | i want a refund | please replace it | buy it from a {shop} |
    {bad_adv} {sadword} | flipkart please {wish} this | don't waste your time | shame on you |
    go for {brand} | stay away | money gone | i lost {rs} rupees |
    the {courier} must {wish} and {wish} | please {wish} your {asp} | zero stars |
    expected more from flipkart
# hedges and negations that point the other way from their words
twist_pos 0.7: not bad at all | no issues so far | never disappointed | nothing bad to say |
    could not ask for better | not {b} like others | no damage | not a duplicate |
    can't find a better one at {rs} | never seen {b} ones from them | i doubted but it is {g} |
    thought it was fake but it is original | don't trust the {b} reviews |
    hard to {act} without it | others are {b}, not this | no more {b} {shs} for me |
    my old {shs} were {b}
twist_neg 0.7: {g} before but not now | good for nothing | i expected {g} {asp} |
    they call it original | {g} only for {span} | last time it was {g} | {shop} ones are {g} |
    only the box is {g} | photos look {g} | {brand} is far better | how can people call it {g} |
    i wanted a {g} {n} | {g} reviews are fake | thought it would be {g} | once a {g} brand |
    everyone said {g}
but 1.8: but | but | only | however | though | yet | except that | still | par | lekin | sadly |
    although
join 1: _and_ | ,_ | ._ | _ | .._ | ._ | ..._ | <none> | . | ;_ | _also_ | !_ | _so_ | , | _&_ |
    _-_ | ..... | _as_ | _plus_ | ._Also_ | _since_
e_pos 1: 👍 | 👌 | 😊 | 😍 | ❤️ | 🙂 | ☺️ | ⭐ | 🏸 | 😎 | 🔥 | 💯 | 🥰 | 👏 | 😀 | 💪 | 🤩 |
    👍🏻 | 😁 | 🙏 | 💖 | 🎉 | 😇 | ✨ | 🏆 | 💥
e_neg 0.9: 👎 | 😡 | 😞 | 😤 | ☹️ | 😒 | 😭 | 🤬 | 😠 | 💔 | 🙁 | 🤮 | 😢 | 😩 | 😑
# titles, by rating; drawn for the rating whatever the text says
title5 0.8: Excellent | Brilliant | Wonderful | Superb buy | Loved it | Top class | Best one yet |
    Must have | Simply superb | Awesome | Great product | Full marks | Perfect | Five stars |
    Worth every rupee | Fantastic | Outstanding | Highly satisfied | Genuine product |
    Flawless flight | Best for practice | Super | Amazing quality | Delighted | A smashing buy |
    Exactly as shown | Great for the club | No complaints | Ten out of ten | Champion stuff |
    Would buy again | Best value | Original piece | Lasts and lasts | Just perfect |
    Made our evenings | Game changer | Happy customer | Quick delivery | Number one
title4 0.7: Very good | Good choice | Nice product | Really good | Pretty nice | Good quality |
    Worth the price | Value for money | Good buy | Liked it | Delightful | Above average |
    Almost perfect | Good for daily play | Nice shuttle | Four stars | Does well | Good deal |
    Reliable | Sturdy enough | Nice and durable | Good but costly | Happy with it | Great |
    Satisfied | Good flight | Fast delivery | Solid product | Better than most | Recommended |
    Good for beginners | Decent and durable | Nicely packed | Nice try | Well made | Good one
title3 0.6: Average | Just okay | Fair | Decent product | Does the job | So so | Okay | Not bad |
    Can be better | Middling | Three stars | Ordinary | Fine for kids | Half happy | Good |
    Nothing special | Mixed feelings | Ok for the price | Fine | Usable | Acceptable |
    Average life | Okay for practice | Price is high | Neither good nor bad | Passable |
    Hit and miss | Expected more | Good with limits | Tolerable | Nice | Good but slow |
    Late delivery | Good box, weak cork | Could last longer | Only for fun
title2 0.6: Not good | Could be much better | Below average | Somewhat disappointed |
    Expected better | Poor quality | Not satisfied | Moderate | Two stars | Not worth it |
    Quality is down | Weak cork | Not durable | Slow and wobbly | Overpriced | Doubtful product |
    Let down | Hardly lasts | Disappointing | Needs improvement | Old stock | Not as before |
    Bad packing | Not as described | Too fragile | Poor finish | Too costly | Unhappy |
    Uneven flight | Lower your hopes | Not for players | Broke early | Some were damaged | Meh
title1 0.6: Very poor | Waste of money | Worst product | Terrible | Useless | Horrible |
    Hated it | Duplicate product | Did not last | Do not buy | Utter rubbish |
    Totally disappointed | Worthless | Fake product | Cheated | Bad quality | Not recommended |
    Pathetic | One star | Regret buying | Damaged pieces | Old and used | Money down the drain |
    Never again | Unacceptable | Shocking quality | Poor service | Broken on arrival |
    Not original | Fraud | Worst ever | Total loss | No refund | Stay away | Opened box |
    Bad experience | Zero stars | Very bad | Wrong item | Disgusting
"""

# How common words come out of a telephone keyboard: our own list.
RESPELLINGS = """
good: gud goood gd goo goid good gooood
nice: nyc nic nise nicee niice noce
quality: qulity quaity qualty quallity quilty qality kwalty
product: prodct prodect produt pruduct prduct produce podact
products: prodcts produts
very: vry vary verry veri vey
shuttle: shuttel shutle suttle shutel shettle satal shuttl
excellent: exelent excelent excellant exellent
awesome: osm awsome awesom osum awsm
original: orginal orignal origional originl
genuine: genuin geniune jenuine genune
superb: suprb superbb supurb
super: supr suprr superr
delivery: delevery dilivery delivry dlivery delivary
shuttlecock: shuttlecok shutlecock shuttelcock suttlecock
durable: durabel dureable durble
worst: wrst worest wost
waste: vaste west wast
please: plz pls plese
you: u yu
for: fr fo 4
and: nd n an
the: d da teh
is: iz s
thanks: thnx thnks tanks
days: dayz dys
received: recieved recived
money: mony mney
play: ply paly
playing: plying playin
because: bcoz becoz cuz
duplicate: dupliket duplicat duplicte
damaged: damged damagd demaged
not: nt nott
feather: fether
durability: durablity durabilty
perfect: perfact prefect perfct
satisfied: satisfid setisfied satisfy
price: prise pryce pric
packing: paking packng
don't: dont don’t dnt
didn't: didnt did'nt
can't: cant can’t
cork: cock crok corc
i: I i
best: bst bestt besttt
with: wid wth
are: r ar
thank: thnk tank
average: avrage averege avg
flipkart: flipcart fk flipkrt
disappointed: dissapointed disapointed
better: beter btr
ok: okk okey k
recommended: recomended recommanded
buy: by buyy
poor: por poorr
bad: bed baad badd
"""
