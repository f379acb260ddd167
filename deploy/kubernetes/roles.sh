#!/bin/sh
# Run once by the database's image, on an empty data directory: a database, and two roles of which the server's can neither drop nor alter (docs/database.md).
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set owner_password="$HISTORIAN_OWNER_PASSWORD" --set server_password="$HISTORIAN_SERVER_PASSWORD" <<'SQL'
CREATE ROLE historian_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE historian_server LOGIN PASSWORD :'server_password';
CREATE DATABASE plant OWNER historian_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE plant FROM PUBLIC;
GRANT CONNECT ON DATABASE plant TO historian_server;
SQL
