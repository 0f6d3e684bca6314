#!/usr/bin/env bash
# across.sh: the parts of scripts/vagrant-test that need two machines. Run as root in one of them.
#   serve ADDR PORT   an HTTP server that answers its host's name, until the machine goes
#   ask ADDR PORT     a VIP whose only backend is that server; asks the VIP, and says what came
#   seen              the addresses that asked the server
set -euo pipefail
dir=/var/tmp/zerohop-across
mkdir -p "$dir"
cd /zerohop

fail() {
  echo "across: $*" >&2
  exit 1
}

until_true() { # COMMAND…: up to half a minute
  for ((i = 0; i < 300; i++)); do
    if "$@"; then return; fi
    sleep 0.1
  done
  fail "in vain: $*"
}

serve() { # ADDR PORT
  mkdir -p "$dir/www"
  hostname >"$dir/www/name"
  systemd-run --quiet --unit zerohop-serve -p "StandardError=append:$dir/access" \
    python3 -u -m http.server --bind "$1" --directory "$dir/www" "$2"
  until_true listens "$2"
}

listens() { [[ -n $(ss -Hltn "sport = :$1") ]]; }

ask() { # ADDR PORT
  local vip answer
  systemd-run --quiet --unit zerohop-agent --working-directory=/zerohop \
    /zerohop/scripts/zerohop agent --data "$dir/data"
  until_true agent_answers
  ./scripts/zerohop service add across --port 80 >"$dir/made"
  vip=$(sed -nE 's/^reachable at ([0-9.]+) .*/\1/p' "$dir/made")
  [[ -n $vip ]] || fail "no VIP in: $(<"$dir/made")"
  if timeout 10 curl -s "http://$vip/name"; then fail "the VIP $vip answers without a backend"; fi
  ./scripts/zerohop backend add across "$1:$2" >"$dir/made"
  answer=$(timeout 30 curl -sS -w ' %{remote_ip}' "http://$vip/name" | tr -d '\n')
  [[ $answer == "own2 $vip" ]] || fail "the VIP $vip answered: $answer"
  echo "asked $vip from $(hostname), answered by own2"
  ./scripts/zerohop maps dump
  systemctl stop zerohop-agent
  answer=$(timeout 30 curl -sS "http://$vip/name")
  [[ $answer == own2 ]] || fail "with the agent stopped the VIP answered: $answer"
  echo 'asked again with the agent stopped, answered by own2'
  ./scripts/zerohop detach
  if timeout 10 curl -s "http://$vip/name"; then fail "the VIP $vip answers after detach"; fi
}

agent_answers() { ./scripts/zerohop status >/dev/null 2>&1; }

seen() { sed -nE 's/^([0-9.]+) .*"GET \/name .*/seen: \1/p' "$dir/access" | sort -u; }

"$@"
