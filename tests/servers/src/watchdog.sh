# Ends a server and removes its folder once the process that started it is gone: it holds the other end of this script's
# input. $1 is the folder, in which each <name>.pid names a program that was started; $2 the signal that ends them.
trap '' HUP INT QUIT TERM

while read -r _; do :; done

# The programs and what they started in turn.
pids=$(cat /proc/[0-9]*/status 2>/dev/null | awk -v roots="$(cat "$1"/*.pid 2>/dev/null | tr '\n' ' ')" '
    /^Pid:/ { pid = $2 }
    /^PPid:/ { parent[pid] = $2 }
    END {
        count = split(roots, root, " ")
        for (i = 1; i <= count; i++) if (root[i] in parent) hit[root[i]] = 1
        do {
            more = 0
            for (pid in parent) if (parent[pid] in hit && !(pid in hit)) { hit[pid] = 1; more = 1 }
        } while (more)
        for (pid in hit) print pid
    }')

if [ -n "$pids" ]; then
    # shellcheck disable=SC2086
    kill -CONT $pids 2>/dev/null
    # shellcheck disable=SC2086
    kill -"$2" $pids 2>/dev/null
    # Five seconds to end; a zombie has ended.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
        alive=
        for pid in $pids; do
            if grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status"; then alive="$alive $pid"; fi
        done
        [ -z "$alive" ] && break
        sleep 0.2
    done
    # shellcheck disable=SC2086
    [ -z "$alive" ] || kill -KILL $alive 2>/dev/null
fi

# Again while something that was just ended still writes.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" 2>/dev/null && break
    sleep 0.1
done
