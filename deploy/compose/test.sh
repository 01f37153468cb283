#!/usr/bin/env bash
# Real containers from nothing but a Docker engine: base image, build, up, validate, kill -9 under load, reckoning.
# No registry is asked for images. Run by hand, as root where images are made (debootstrap): deploy/compose/test.sh
#
#   --keep            leave the containers running (and say how to take them down)
#   --no-build        use the images of an earlier run
#   --restart-engine  also end and start Docker's own daemon under load, with whatever else it runs (as root)
#   --cuda            also build the image with CUDA (6 GB; 12 GB of disk) and go on with it where the other left off
#
# Needed: Docker, docker compose (the plugin) or docker-compose 1.29, debootstrap (installed by apt-get if it is missing),
# a built .venv (make build) for the wheel. Package indexes are those that pip, uv and apt of this machine use; what
# they are configured with goes into the throw-away build image only.
set -euo pipefail
cd "$(dirname "$0")/../.."

keep=0 build=1 restart_engine=0 cuda=0
for argument; do
    case $argument in
        --keep) keep=1 ;;
        --no-build) build=0 ;;
        --restart-engine) restart_engine=1 ;;
        --cuda) cuda=1 ;;
        *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

suite=bookworm
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
project=perfuse-test
rounds=${ROUNDS:-2}
export PERFUSE_IMAGE=perfuse:cpu PERFUSE_REDIS_IMAGE=perfuse-redis:$suite
export PERFUSE_PUBLISH=127.0.0.1:${PORT:-18080} DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}
network=${project}_outside
work=$(mktemp -d) # also of secrets: those of a deployment from this folder stay as they are
load= # a client on this machine

step() { printf '\n== %s\n' "$*"; }
seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }; }

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-name $project --file "$work/edge.yaml" "$@"
    else
        docker-compose --project-name $project --file "$work/edge.yaml" "$@"
    fi
}

finish() {
    local status=$?
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    if ((status)); then
        printf '\nfailed; the last of the logs:\n' >&2
        compose logs --no-color --tail 20 >&2 || true
    fi
    if ((keep)); then
        printf '\nstill running; down with: docker compose -p %s -f %s/edge.yaml down --volumes\n' $project "$work"
    else
        docker rm --force $project-load >/dev/null 2>&1 || true
        quietly compose down --volumes --remove-orphans --timeout 30 || true
        rm -rf "$work"
    fi
    exit $status
}
trap finish EXIT
cp deploy/compose/edge.yaml deploy/compose/secrets.sh "$work/"

base_image() {
    has_image perfuse-base:$suite && return
    if ! command -v debootstrap >/dev/null; then
        echo "installing debootstrap with apt-get"
        quietly apt-get install --yes --quiet --no-install-recommends debootstrap
    fi
    local tree="$work/tree"
    quietly debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates $suite "$tree" "$mirror"
    # What this machine trusts (a proxy's certificate, say) is trusted in the build.
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
    tar -C "$tree" -c . | docker import - perfuse-base:$suite >/dev/null
    rm -rf "$tree"
}

derived_image() { # NAME, then a Dockerfile on stdin
    mkdir -p "$work/context"
    cat > "$work/context/Dockerfile"
    nice docker build --quiet --network host --tag "$1" "$work/context" >/dev/null 2>"$work/log" \
        || { cat "$work/log" >&2; return 1; }
    rm -rf "$work/context"
}

build_images() {
    mkdir -p "$work/context"
    for file in /etc/pip.conf "$HOME/.config/uv/uv.toml"; do [ ! -r "$file" ] || cp "$file" "$work/context/"; done
    touch "$work/context/pip.conf" "$work/context/uv.toml"
    { # settings of this machine's pip and uv, but not the folders they name
        cat <<DOCKERFILE
FROM perfuse-base:$suite
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev binutils >/dev/null
COPY pip.conf /etc/pip.conf
COPY uv.toml /etc/uv/uv.toml
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
DOCKERFILE
        env | grep -E '^(PIP|UV)_(INDEX|EXTRA_INDEX|DEFAULT_INDEX)[A-Z_]*=|^(HTTPS?|NO)_PROXY=' | sed 's/^/ENV /' || true
    } | derived_image perfuse-build:$suite
    derived_image perfuse-redis:$suite <<DOCKERFILE
FROM perfuse-base:$suite
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --no-create-home redis \
 && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \
 && rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
DOCKERFILE
    rm -f dist/perfuse-[0-9]*.whl
    quietly nice .venv/bin/maturin build --release --locked --out dist
    image "$1"
}

image() { # TARGET
    nice docker build --network host --file docker/Dockerfile --target "$1" --tag "perfuse:$1" \
        --build-arg BASE_IMAGE=perfuse-base:$suite --build-arg BUILD_IMAGE=perfuse-build:$suite \
        --build-arg RUST_IMAGE=perfuse-build:$suite . >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; return 1; }
}

# Docker's daemon, by whatever started it here; else with its own arguments and environment, into its own log.
restart_engine() {
    if [ "$(cat /proc/1/comm)" = systemd ]; then
        systemctl restart docker
    else
        local daemon command environment log
        daemon=$(pidof dockerd)
        mapfile -d '' command <"/proc/$daemon/cmdline"
        mapfile -d '' environment <"/proc/$daemon/environ"
        exec {log}>>"/proc/$daemon/fd/1"
        kill "$daemon"
        while kill -0 "$daemon" 2>/dev/null; do sleep 0.2; done
        setsid env --ignore-environment "${environment[@]}" "${command[@]}" </dev/null >&"$log" 2>&1 {log}>&- &
        exec {log}>&-
    fi
    local deadline=$((SECONDS + 60))
    until docker info >/dev/null 2>&1; do
        if ((SECONDS > deadline)); then echo "Docker does not answer after 60 s" >&2; return 1; fi
        sleep 0.2
    done
}

container() { compose ps -q "$1"; }
health() { docker inspect --format '{{.State.Health.Status}}' "$(container "$1")"; }
inside() { docker exec "$(container perfuse)" "$@"; }
# A client beside the server, as another container of its network.
client() { docker run --rm --interactive --network "$network" --env PERFUSE_KEY "$@"; }
validate() { client perfuse:cpu validate http://perfuse:8000 "$@"; }

reckon() { # NAME… of files in $work with what was acknowledged
    local file volumes=()
    for file; do volumes+=(--volume "$work/$file:/$file:ro"); done
    client --volume "$PWD/deploy/compose/load.py:/load.py:ro" "${volumes[@]}" \
        --entrypoint python perfuse:cpu /load.py check http://perfuse:8000 "${@/#//}"
}

wait_healthy() { # SERVICE SECONDS
    local deadline=$((SECONDS + $2))
    until [ "$(health "$1")" = healthy ]; do
        if ((SECONDS > deadline)); then echo "$1 is not healthy after $2 s" >&2; return 1; fi
        sleep 0.2
    done
}

wait_ready() { # until requests are served; prints the seconds
    local began
    began=$(seconds)
    until inside python -m perfuse.health --ready >/dev/null 2>&1; do
        if awk -v s="$(since "$began")" 'BEGIN { exit s < 120 }'; then echo "not ready after 120 s" >&2; return 1; fi
        sleep 0.2
    done
    since "$began"
}

# A death that Docker did not order, so that its restart policy applies.
kill_container() { kill -9 "$(docker inspect --format '{{.State.Pid}}' "$(container "$1")")"; }

kill_part() { # a process inside, by the name it gave itself
    inside python -c '
import os, sys
from pathlib import Path
named = [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/comm") if file.read_text().strip() == sys.argv[1]]
os.kill(named[0], 9)
' "$1"
}

if ((build)); then
    step "images, without a registry"
    began=$(seconds)
    base_image
    build_images cpu
    echo "made in $(since "$began") s"
fi
docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' | grep '^perfuse' | sort

step "up"
"$work/secrets.sh" 2>/dev/null
echo "train_after: 100000" >> "$work/secrets/perfuse.yaml" # the load teaches nothing
PERFUSE_KEY=$(sed -n '1s/^- key: //p' "$work/secrets/keys.yaml")
export PERFUSE_KEY
began=$(seconds)
quietly compose up --detach
printf 'containers started after %s s; ' "$(since "$began")"
wait_ready >/dev/null
printf 'cold start (up to ready): %s s\n' "$(since "$began")"
wait_healthy perfuse 60
validate

step "what holds it"
docker exec --interactive "$(container perfuse)" python - <<'PYTHON'
import os
from pathlib import Path

fields = dict(line.split(":\t", 1) for line in Path("/proc/1/status").read_text().splitlines() if ":\t" in line)
assert os.getuid() == 10001 and fields["Uid"].split() == ["10001"] * 4, fields["Uid"]
assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, fields["CapBnd"]
assert fields["NoNewPrivs"].strip() == "1" and fields["Seccomp"].strip() == "2"
for place in ("/", "/opt/perfuse", "/etc", "/usr/bin"):
    try:
        Path(place, "written").touch()
    except OSError as refused:
        assert refused.strerror in ("Read-only file system", "Permission denied"), refused
    else:
        raise AssertionError(f"{place} can be written")
root = next(line for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == "/")
assert "ro" in root.split()[3].split(","), root
print("user 10001, no capability, no new privileges, seccomp filter, read-only root")
PYTHON
inside perfuse doctor --sandbox --json > "$work/doctor"
docker exec --interactive "$(container perfuse)" python -c '
import json, sys
held = json.load(sys.stdin)["sandbox"]
print("jail:", ", ".join(f"{name} {held.get(name)}" for name in ("tier", "landlock_abi", "user", "probes", "escaped")))
sys.exit(held["tier"] != "standard" or bool(held["escaped"]))
' < "$work/doctor"
docker stats --no-stream --format '{{.Name}}  memory {{.MemUsage}}  processes {{.PIDs}}' | grep $project

step "kill -9 under load: $rounds rounds"
validate --json > "$work/before"
generation=$(sed -n 's/.*"generation": "\(gen_[^"]*\)".*/\1/p' "$work/before")
docker run --rm --detach --name $project-load --network "$network" --env PERFUSE_KEY \
    --volume "$PWD/deploy/compose/load.py:/load.py:ro" --entrypoint python perfuse:cpu \
    /load.py run http://perfuse:8000 >/dev/null
docker logs --follow $project-load > "$work/acknowledged" &
logs=$!
for ((round = 0; round < rounds; round++)); do
    for part in perfuse-front perfuse-engine perfuse-learner; do
        sleep 3
        kill_part $part
        echo "killed $part; ready again after $(wait_ready) s"
    done
    for service in redis perfuse; do
        sleep 5
        kill_container $service
        sleep 0.5
        echo "killed container $service; ready again after $(wait_ready) s"
        wait_healthy $service 90
    done
done
sleep 3
docker stop --time 180 $project-load >/dev/null
wait $logs
reckon acknowledged

step "stop and start"
began=$(seconds)
quietly compose stop --timeout 40
echo "stopped after $(since "$began") s, exit codes: $(docker inspect --format '{{.State.ExitCode}}' \
    "$(compose ps -a -q perfuse)" "$(compose ps -a -q redis)" | tr '\n' ' ')"
quietly compose start
echo "ready again after $(wait_ready) s"
wait_healthy perfuse 60
reckon acknowledged
validate --generation "$generation"

if ((restart_engine)); then
    step "Docker's daemon ends and starts under load"
    # These clients are on this machine: in a container they would end with the daemon.
    python3 deploy/compose/load.py run "http://$PERFUSE_PUBLISH" > "$work/acknowledged-on-restart" &
    load=$!
    sleep 12
    began=$(seconds)
    restart_engine
    echo "Docker answers after $(since "$began") s; the server is ready again after $(wait_ready) s more"
    wait_healthy redis 90
    wait_healthy perfuse 90
    sleep 3
    kill "$load"
    wait "$load"
    load=
    reckon acknowledged acknowledged-on-restart
    validate --generation "$generation"
fi

if ((cuda)); then
    step "the image with CUDA"
    began=$(seconds)
    image cuda
    echo "made in $(since "$began") s: $(docker image ls --format '{{.Size}}' perfuse:cuda)"
    docker run --rm --entrypoint python perfuse:cuda -c '
import torch
print("torch", torch.__version__, "CUDA", torch.version.cuda, "device there:", torch.cuda.is_available())
raise SystemExit(torch.version.cuda is None)
'
    # Without a GPU it computes on the CPU: the same server on the same volumes.
    PERFUSE_IMAGE=perfuse:cuda quietly compose up --detach
    echo "in the place of the other; ready again after $(wait_ready) s"
    wait_healthy perfuse 90
    validate --generation "$generation"
fi
step "all of it holds"
