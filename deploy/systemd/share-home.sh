#!/bin/sh
# Gives each part of a site's folder to the half that needs it, and to nobody else. Run it as root after
# `synthward-site init`, and again after a restore; it may be run while the site is stopped, as often as one likes.
#
#   share-home.sh HOME [LINK_USER TRAINER_USER EXCHANGE_GROUP]
#
# Users and group are names or numbers (numbers for containers, which know no names).
set -eu

home=${1:?which folder? share-home.sh HOME [LINK_USER TRAINER_USER EXCHANGE_GROUP]}
link=${2:-synthward-link}
trainer=${3:-synthward-trainer}
exchange=${4:-synthward-exchange}
[ -f "$home/membership.toml" ] || { echo "$home is not the folder of a site that has enrolled" >&2; exit 2; }

# What both halves read and neither may change: settings, policy, membership.
chown "root:$exchange" "$home" "$home/keys" "$home"/*.toml
chmod 0750 "$home" "$home/keys"
chmod 0640 "$home"/*.toml

# own USER FOLDER: all of it for this user alone.
own() {
    mkdir -p "$2"
    chown -R "$1" "$2"
    chgrp -R "$exchange" "$2"
    chmod -R u+rwX,go-rwx "$2"
}
own "$link" "$home/keys/link"
own "$link" "$home/flower"
own "$trainer" "$home/keys/seal"
own "$trainer" "$home/private"
own "$trainer" "$home/private/generators"
own "$trainer" "$home/logs"

# The exchange: what is made in a folder with the set-group bit belongs to the group. SQLite gives its write-ahead files
# the mode of the database, so the database is made here, writable for both.
mkdir -p "$home/exchange/inbox" "$home/exchange/outbox"
touch "$home/exchange/queue.db"
chown -R "root:$exchange" "$home/exchange"
chown -R "$link" "$home/exchange/inbox"
chown -R "$trainer" "$home/exchange/outbox"
find "$home/exchange" -type d -exec chmod 2750 {} +
find "$home/exchange" -type f -exec chmod 0640 {} +
chmod 2770 "$home/exchange"
for file in "$home"/exchange/queue.db*; do
    chmod 0660 "$file"
done
if [ -f "$home/exchange/worker.lock" ]; then
    chown "$trainer" "$home/exchange/worker.lock"
fi
