-- One database for each of those that keep something; PostgreSQL's image runs this once.
CREATE DATABASE mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE prefect ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE studies ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE predictions ENCODING 'UTF8' TEMPLATE template0;
