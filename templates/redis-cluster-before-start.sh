#!/bin/sh
# Runs as Redis's user before every start of an instance, by systemd and by Ansible alike.
# $1: data directory of the instance, $2: its redis.conf, $3: seconds that a master may wait for its replicas.
# A node that starts with an empty nodes.conf takes a new identity and can never be told from the member it was.
set -eu
umask 077
data=$1 conf=$2 seconds=${3:-30}

member=${conf%/*}/member

refuse() {
  if [ -s "$data/nodes.conf.before-start" ]; then
    copy="the copy back (cp -p $data/nodes.conf.before-start $data/nodes.conf)"
  else
    copy="a copy of nodes.conf back"
  fi
  echo "refused to start: $data/nodes.conf $1, but the instance is a known cluster member or has data." \
    "Put $copy or, to start a new member, remove nodes.conf, its copy and the data too (in $data: appendonlydir," \
    "appendonly.aof, dump.rdb), and $member." >&2
  exit 1
}

if [ -e "$data/nodes.conf" ] && [ ! -r "$data/nodes.conf" ]; then
  echo "refused to start: $(id -un) may not read $data/nodes.conf. Give it back (chown $(id -un) $data/nodes.conf)." >&2
  exit 1
elif [ -s "$data/nodes.conf" ]; then
  # The last line that Redis writes. Without it the file is cut short, and Redis would refuse it too.
  grep -Eq '^vars currentEpoch [0-9]+ lastVoteEpoch [0-9]+$' "$data/nodes.conf" || refuse "is cut short"
  cp "$data/nodes.conf" "$data/nodes.conf.before-start.new"
  mv "$data/nodes.conf.before-start.new" "$data/nodes.conf.before-start"
else
  # In its first life a node has no copy, but Redis writes nodes.conf before any data.
  for trace in nodes.conf.before-start appendonlydir appendonly.aof dump.rdb; do
    [ ! -e "$data/$trace" ] || refuse "is empty or missing"
  done
  # Written by Ansible, away from the data, once the instance had a nodes.conf.
  if [ -e "$member" ]; then
    echo "refused to start: $member says that this is a known cluster member with its data in $(cat "$member"), but" \
      "$data has no nodes.conf. Mount the disk, or put the data back; to start a new member instead, remove $member." >&2
    exit 1
  fi
fi

# CONFIG REWRITE copies users and modules of redis.conf into rewrite.conf, and Redis refuses to read them twice; the
# password of the default user would even be the old one. What redis.conf states is taken out of rewrite.conf.
awk '
  NR == FNR {
    if ($1 == "user" || $1 == "loadmodule") ours[$1 " " $2]
    if ($1 == "requirepass") ours["user default"]
    if ($1 == "aclfile") aclfile = 1
    next
  }
  !(($1 " " $2) in ours) && !(aclfile && $1 == "user")
' "$conf" "$data/rewrite.conf" >"$data/rewrite.conf.new"
mv "$data/rewrite.conf.new" "$data/rewrite.conf"

# Memory that does not come back whole is asked about before it is spread to the replicas.
directive() { # name, default: what Redis will take, for redis.conf is read last
  awk -v name="$1" -v value="$2" 'tolower($1) == name { value = $2; gsub(/["'"'"']/, "", value) } END { print value }' \
    "$data/rewrite.conf" "$conf"
}
is_master() {
  awk '$3 ~ /myself/ { found = $3 ~ /master/ && NF > 8 } END { exit !found }' "$data/nodes.conf"
}
wants_aof() {
  case $(directive appendonly no) in [yY][eE][sS]) ;; *) return 1 ;; esac
}
aof_dir=$(directive appenddirname appendonlydir)
aof_file=$(directive appendfilename appendonly.aof)
has_aof() { # one that was just switched on has no file yet, and Redis then loads nothing at all
  wants_aof && { [ -s "$data/$aof_dir/$aof_file.manifest" ] || [ -s "$data/$aof_file" ]; }
}
if [ -e "$data/start-empty" ]; then
  rm "$data/start-empty"
elif [ -s "$data/nodes.conf" ] && is_master && ! has_aof; then
  "${0%/*}/ask-peers" "$data" "$conf" "$seconds"
fi

# An AOF that is switched off grows old, and would be loaded when it is switched on again.
if ! wants_aof && { [ -f "$data/$aof_dir/$aof_file.manifest" ] || [ -f "$data/$aof_file" ]; }; then
  rm -rf "$data/aof.switched-off"
  mkdir "$data/aof.switched-off"
  [ ! -f "$data/$aof_dir/$aof_file.manifest" ] || mv "$data/$aof_dir" "$data/aof.switched-off/"
  [ ! -f "$data/$aof_file" ] || mv "$data/$aof_file" "$data/aof.switched-off/"
  echo "appendonly is no: the AOF of before is moved to $data/aof.switched-off, in place of any older one." >&2
fi

# What this process was started with. Others later on may mean that a restart is pending; one that was wanted is done.
cat "$conf" "${conf%/*}/environment" | sha256sum >"$data/redis.conf.started"
cat "$conf" >"$data/redis.conf.running"
cat "${conf%/*}/environment" >"$data/environment.running"
rm -f "$data/restart-wanted"
