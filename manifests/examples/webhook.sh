#!/bin/sh
# A webhook: POSTs each lifecycle event of the instances (starting, ready, failed, disrupted, labelled,
# stopping, gone; relist has the state after a gap) to a URL: its name in the header Event, its JSON as the body.
#
#   URL=http://config-controller:3333 HOOK=http://portal/events STATE=/data/last sh webhook.sh [type=hello]
#
# An event is sent until the hook takes it, so it may come twice, also after a restart if STATE is kept. With
# AUTH on, set TOKEN. Needs sh and curl.
#
# A test runs it (with curl 7.88 and dash).
set -u
while :; do
    last=$(cat "$STATE" 2>/dev/null)
    # The kernel finds out when the connection is dead; heartbeats are too short for --speed-limit.
    curl -sSN --fail --keepalive-time 15 -H 'Accept: text/event-stream' \
        ${last:+-H "Last-Event-ID: $last"} ${TOKEN:+-H "Authorization: Bearer $TOKEN"} "$URL/instances${1:+?$1}" |
        while IFS= read -r line; do
            case $line in
            id:*) id=${line#id: } ;;
            event:*) event=${line#event: } ;;
            data:*) data=${line#data: } ;;
            "")
                [ "${data:-}" ] || continue
                printf %s "$data" | curl -sS --fail --retry 5 --retry-connrefused --max-time 10 -o /dev/null \
                    -H 'Content-Type: application/json' -H "Event: ${event:-}" --data-binary @- "$HOOK" || break
                printf %s "${id:-}" >"$STATE"
                event='' data=''
                ;;
            esac
        done
    sleep 1
done
