#!/usr/bin/env bash
# A real SLURM on this machine: slurmctld, slurmd and munged as one node, all their files in one folder.
#
#   tests/cluster/one_node.sh start FOLDER CPUS    starts it, and waits until the node is idle
#   tests/cluster/one_node.sh stop FOLDER          ends it
#
# Needs root and Debian's packages: apt-get install slurmctld slurmd slurm-client munge. With `export SLURM_CONF=FOLDER/slurm.conf`
# sbatch and squeue talk to it. Nothing outside FOLDER is written, apart from /run/munge (the socket that SLURM expects).
set -euo pipefail
action=$1
folder=$(realpath "$2")
export SLURM_CONF=$folder/slurm.conf
socket=$folder/munge.socket

start() {
  local cpus=$1 name
  name=$(hostname -s)
  mkdir -p "$folder"/{state,spool,log}
  chmod 755 "$folder"
  # munge signs who asks; its folders must belong to the user that runs it
  head -c 1024 /dev/urandom > "$folder/munge.key"
  chmod 400 "$folder/munge.key"
  munged --force --key-file="$folder/munge.key" --socket="$socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" --num-threads=1
  cat > "$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=2000 State=UNKNOWN
PartitionName=test Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld -i
  slurmd -N "$name"
  for _ in $(seq 120); do
    [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
    sleep 0.5
  done
  tail -n 5 "$folder"/log/*.log >&2
  stop
  echo "error: the node did not become idle" >&2
  exit 1
}

stop() {
  scancel --user="$(id -un)" 2>/dev/null || true
  for _ in $(seq 20); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 0.5
  done
  for daemon in slurmd slurmctld munged; do
    [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
  done
}

case $action in
  start) start "$3" ;;
  stop) stop ;;
  *) echo "usage: $0 start FOLDER CPUS | stop FOLDER" >&2; exit 2 ;;
esac
