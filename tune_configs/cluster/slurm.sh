#!/usr/bin/env bash
# A sweep on nodes of Slurm. From a folder that all nodes mount:
#
#   sbatch tune_configs/cluster/slurm.sh launch sweeps/mine.yaml --storage rc_storage
#   sbatch tune_configs/cluster/slurm.sh resume mine-1 --storage rc_storage
#
# Whatever follows the script's name is a command of rc-sweep. Slurm ends a job at its time limit
# with SIGTERM: the sweep is closed in order then, and the second line goes on with it.
#SBATCH --job-name=rc-sweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=rc-sweep-%j.log
set -euo pipefail

# Where robust-compression-sweeps[cluster] is installed, or a module that has it.
VENV=${VENV:-.venv}
PORT=${PORT:-6379}
source "$VENV/bin/activate"

cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts[0]}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

started=()
# Ends what this job started, and nothing else on the nodes.
finish() { kill "${started[@]}" 2>/dev/null || true; wait; }
trap finish EXIT

start_ray() {  # NODE ARGUMENT...
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$node" \
    ray start --block --num-cpus="$cpus" --num-gpus="$gpus" "$@" &
  started+=($!)
}

start_ray "$head" --head --node-ip-address="$head_ip" --port="$PORT" --include-dashboard=false
until ray status --address "$head_ip:$PORT" >/dev/null 2>&1; do
  kill -0 "${started[0]}" || { echo "Ray's head did not start on $head" >&2; exit 1; }
  sleep 2
done
for node in "${hosts[@]:1}"; do
  start_ray "$node" --address="$head_ip:$PORT"
done

# In the background, so that SIGTERM reaches this script at once, and through it the sweep.
rc-sweep "$@" --address "$head_ip:$PORT" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM INT
status=0
wait "$sweep" || status=$?
# A signal ends `wait` early: the sweep is still closing.
while kill -0 "$sweep" 2>/dev/null; do
  status=0
  wait "$sweep" || status=$?
done
exit "$status"
