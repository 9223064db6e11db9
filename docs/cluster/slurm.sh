#!/bin/bash
#SBATCH --job-name=kdsweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# Starts Ray on the machines of the allocation and runs a sweep on them. Before the time is up, or when
# the job is pre-empted, the sweep gets SIGTERM and pauses in order; the requeued job resumes it.
#
#     sbatch docs/cluster/slurm.sh SPACE.yaml /shared/experiments
set -euo pipefail
space=$1
experiments=$2
port=6379
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${hosts%%$'\n'*}
export RAY_worker_niceness=0

srun --nodes=1 --ntasks=1 --nodelist="$first" \
    ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
# The others try again until the first one is up.
if [ "$SLURM_NNODES" -gt 1 ]; then
    srun --nodes="$((SLURM_NNODES - 1))" --ntasks="$((SLURM_NNODES - 1))" --exclude="$first" \
        bash -c "until ray start --address=$first:$port --num-cpus=$SLURM_CPUS_PER_TASK --block; do sleep 5; done" &
fi
until ray status --address="$first:$port" > /dev/null 2>&1; do sleep 2; done

if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -e "$experiments/latest" ]; then
    kdsweep resume "$experiments/latest" --address "$first:$port" &
else
    kdsweep run "$space" --out "$experiments" --address "$first:$port" &
fi
sweep=$!
trap 'kill -TERM "$sweep"' TERM
code=0
wait "$sweep" || code=$?
# A signal ends `wait` before the sweep has paused.
while kill -0 "$sweep" 2> /dev/null; do wait "$sweep" || code=$?; done
if [ "$code" -eq 130 ]; then scontrol requeue "$SLURM_JOB_ID" || true; fi
exit "$code"
