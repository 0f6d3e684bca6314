# shellcheck shell=bash
# What the scripts share: where the checkout is, its Node, one line a step. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
log=$root/.cache/${0##*/}.log # the last run's whole output, for when a step fails
trap 'printf "%s: failed at line %s\n" "$0" "$LINENO" >&2' ERR

# .node/bin/node is the Node that setup chose; root's PATH lacks sbin after a plain `su`.
export PATH=$root/.node/bin:$root/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() { # die MESSAGE [EXIT-CODE]
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit "${2:-1}"
}

seconds_since() { # seconds_since $EPOCHREALTIME: "1.2 s", without a process
  local now=${EPOCHREALTIME/[.,]/} then=${1/[.,]/} ms
  ms=$(((now - then) / 1000))
  printf '%d.%02d s' $((ms / 1000)) $((ms % 1000 / 10))
}

step() { # step LABEL COMMAND…: runs it, prints one line with its duration, and its output only if it fails
  local label=$1 start=$EPOCHREALTIME status
  shift
  mkdir -p "$root/.cache"
  printf '  %-50s ' "$label"
  set +e # not `|| status=$?`, which would switch -e off inside the command too
  (set -e && "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if ((status == 0)); then
    printf '%9s\n' "$(seconds_since "$start")"
  else
    printf 'failed after %s\n' "$(seconds_since "$start")"
    if (($(wc -l <"$log") > 80)); then
      (sed '20q' "$log" && echo "… (all of it: $log)" && tail -n 50 "$log") | sed 's/^/    /'
    else
      sed 's/^/    /' "$log"
    fi
    return "$status"
  fi
}

# fresh NAME KEY: whether stamp NAME holds KEY already. stamp NAME KEY: writes it.
fresh() { [[ -f $root/dist/.stamps/$1 && $(<"$root/dist/.stamps/$1") == "$2" ]]; }
stamp() { mkdir -p "$root/dist/.stamps" && printf '%s\n' "$2" >"$root/dist/.stamps/$1"; }
