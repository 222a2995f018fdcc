//! Each preset on a node as the real programs leave it: what is a worker, what is not, and how they are called.

use super::*;
use crate::node::Process;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ID2: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
pub(crate) const SESSION: &str = "/user.slice/user-1000.slice/session-4.scope";

/// Rule, cgroup, owner, priority and processes of a worker.
pub(crate) type Row = (String, String, String, u64, u64);

pub(crate) fn preset(node: &Node, name: &str) -> (Vec<Row>, Value) {
    let answer = answer(node, &["--preset", name]);
    (workers(&answer), answer)
}

pub(crate) fn names(answer: &Value, key: &str) -> Vec<String> {
    answer["workers"].as_array().unwrap().iter().map(|worker| worker[key].to_string()).collect()
}

#[test]
fn kubernetes_with_the_cgroupfs_driver() {
    for node in [Node::v1(), Node::v2()] {
        let pod = |class: &str, pod: &str, container: &str| format!("/kubepods{class}/pod{pod}/{container}");
        // Pids end in their size in MiB.
        node.add(101, 1, "pause", "/pause", &pod("/besteffort", "aa-1", ID2));
        node.set(101, "oom_score_adj", "-998\n");
        // One that the node needs is of any class.
        node.add(143, 1, "calico-node", "calico-node", &pod("/burstable", "dd-4", ID));
        node.set(143, "oom_score_adj", "-997\n");
        node.add(140, 1, "python3", "python3 train.py", &pod("/besteffort", "aa-1", ID));
        node.add(141, 140, "python3", "python3 train.py", &pod("/besteffort", "aa-1", ID));
        node.add(150, 1, "java", "java -jar a.jar", &pod("/burstable", "bb-2", ID));
        node.add(160, 1, "postgres", "postgres", &pod("", "cc-3", ID));
        node.set(160, "oom_score_adj", "-997\n");
        node.add(170, 1, "kubelet", "/usr/bin/kubelet", "/system.slice/kubelet.service");
        let (found, answer) = preset(&node, "kubernetes");
        let expected = [
            worker("kubernetes:best-effort", "pod-aa-1", &format!("aa-1/{ID}"), 140, 2),
            worker("kubernetes:burstable", "pod-bb-2", &format!("bb-2/{ID}"), 150, 1),
            worker("kubernetes:guaranteed", "pod-cc-3", &format!("cc-3/{ID}"), 160, 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(names(&answer, "priority"), ["-20", "-10", "0"]);
        assert_eq!(names(&answer, "unit"), ["\"cgroup\""; 3]);
        // What the cgroup is charged, not the sum of its processes.
        assert_eq!(answer["workers"][0]["memory"], 100 << 20);
        assert_eq!(answer["workers"][0]["measured"], "cgroup");
    }
}

#[test]
fn kubernetes_with_the_systemd_driver() {
    for (node, top) in [(Node::v1(), ""), (Node::v2(), ""), (Node::v2(), "/kubelet.slice/kubelet-")] {
        let slices = |class: &str, pod: &str| {
            let name = if top.is_empty() { "/" } else { top };
            let prefix = if top.is_empty() { "" } else { "kubelet-" };
            let class =
                |infix: &str| if class.is_empty() { String::new() } else { format!("{infix}{class}") };
            let around = if class("").is_empty() {
                String::new()
            } else {
                format!("/{prefix}kubepods{}.slice", class("-"))
            };
            format!("{name}kubepods.slice{around}/{prefix}kubepods{}-pod{pod}.slice", class("-"))
        };
        node.add(
            140,
            1,
            "app",
            "app",
            &format!("{}/cri-containerd-{ID}.scope", slices("besteffort", "aa_1")),
        );
        node.add(150, 1, "app", "app", &format!("{}/crio-{ID}.scope/container", slices("burstable", "bb_2")));
        node.add(
            151,
            1,
            "conmon",
            "/usr/bin/conmon",
            &format!("{}/crio-conmon-{ID}.scope", slices("burstable", "bb_2")),
        );
        node.add(160, 1, "app", "app", &format!("{}/docker-{ID}.scope", slices("", "cc_3")));
        let (found, answer) = preset(&node, "kubernetes");
        let expected = [
            worker("kubernetes:best-effort", "pod-aa_1", &format!("aa-1/{ID}"), 140, 1),
            worker("kubernetes:burstable", "pod-bb_2", &format!("bb-2/{ID}"), 150, 1),
            worker("kubernetes:guaranteed", "pod-cc_3", &format!("cc-3/{ID}"), 160, 1),
        ];
        assert_eq!(found, expected, "{top}");
        assert!(
            answer["workers"][1]["cgroup"].as_str().unwrap().ends_with(&format!("crio-{ID}.scope")),
            "the innermost that matches"
        );
    }
}

#[test]
fn containers_of_docker_podman_and_nerdctl() {
    let layouts = [
        ("containers:docker", "docker", format!("/docker/{ID}")),
        ("containers:docker", "docker", format!("/system.slice/docker-{ID}.scope")),
        ("containers:docker-build", "docker-build", format!("/docker/buildkit/{ID}")),
        ("containers:docker-build", "docker-build", format!("/system.slice/system.slice:docker:{ID}")),
        ("containers:podman", "podman", format!("/libpod_parent/libpod-{ID}")),
        ("containers:podman", "podman", format!("/machine.slice/libpod-{ID}.scope/container")),
        ("containers:podman", "podman", format!("/system.slice/web.service/libpod-payload-{ID}")),
        ("containers:nerdctl", "nerdctl", format!("/default/{ID}")),
        ("containers:nerdctl", "nerdctl", format!("/system.slice/nerdctl-{ID}.scope")),
    ];
    for (rule, program, cgroup) in layouts {
        for node in [Node::v1(), Node::v2()] {
            node.add(140, 1, "app", "/app", &cgroup).add(141, 140, "sh", "sh", &cgroup);
            node.add(
                145,
                1,
                "conmon",
                "/usr/bin/conmon -c x",
                &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            );
            node.add(146, 1, "dockerd", "/usr/bin/dockerd", "/system.slice/docker.service");
            let (found, _) = preset(&node, "containers");
            assert_eq!(found, [worker(rule, &format!("{program}-{ID}"), ID, 140, 2)], "{cgroup}");
        }
    }
}

#[test]
fn what_keeps_a_pod_of_podmans_together_is_no_victim() {
    let layouts = [
        (Node::v1(), "/libpod_parent/0a1b/libpod-".to_owned(), ""),
        (Node::v2(), "/machine.slice/machine-libpod_pod_0a1b.slice/libpod-".to_owned(), ".scope"),
    ];
    for (node, begin, end) in layouts {
        node.add(140, 1, "catatonit", "/catatonit -P", &format!("{begin}{ID}{end}"));
        node.add(141, 1, "app", "/app", &format!("{begin}{ID2}{end}"));
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("monitor.toml");
        std::fs::write(&config, "presets = [\"containers\"]\nrules_mode = \"enforce\"\n").unwrap();
        let answer = answer(&node, &["--config", config.to_str().unwrap()]);
        let expected = [
            worker("containers:podman-infra", &format!("podman-{ID}"), ID, 140, 1),
            worker("containers:podman", &format!("podman-{ID2}"), ID2, 141, 1),
        ];
        assert_eq!(workers(&answer), expected);
        assert_eq!(names(&answer, "mode"), ["\"observe\"", "\"enforce\""]);
    }
}

#[test]
fn slurm_with_cgroup_v1_and_v2() {
    let node = Node::v1();
    node.add(150, 1, "slurmstepd", "slurmstepd: [7.0]", "/slurm_n1/uid_1000/job_7/step_0");
    node.add(151, 150, "app", "app", "/slurm_n1/uid_1000/job_7/step_0/task_0");
    node.add(152, 151, "sh", "sh", "/slurm_n1/uid_1000/job_7/step_0/task_0");
    node.add(153, 150, "app", "app", "/slurm_n1/uid_1000/job_7/step_0/task_1");
    node.add(154, 1, "slurmd", "/usr/sbin/slurmd", "/system.slice/slurmd.service");
    let (found, _) = preset(&node, "slurm");
    // Without root's own slurmstepd to compare with, the one of these files is a worker like what it starts.
    let tasks: Vec<_> = found.into_iter().filter(|(rule, ..)| rule == "slurm:task-v1").collect();
    assert_eq!(
        tasks,
        [
            worker("slurm:task-v1", "job-7", "7.0.0", 151, 2),
            worker("slurm:task-v1", "job-7", "7.0.1", 153, 1)
        ]
    );

    let node = Node::v2();
    let step = "/system.slice/slurmstepd.scope/job_8/step_batch";
    node.add(150, 1, "slurmstepd", "slurmstepd: [8.batch]", &format!("{step}/slurm"));
    node.add(151, 150, "bash", "bash job.sh", &format!("{step}/user/task_0"));
    node.add(152, 151, "app", "app", &format!("{step}/user/task_0"));
    let (found, _) = preset(&node, "slurm");
    assert_eq!(found, [worker("slurm:step-v2", "job-8", "8.batch", 151, 2)]);
}

/// pam_slurm_adopt moves sshd into the step "extern". Its processes are the system's, so that the step is not killed whole.
#[test]
fn who_came_to_a_slurm_job_by_ssh_does_not_escape() {
    let by_process = [
        (Node::v1(), "/slurm_n1/uid_1000/job_7/step_extern/task_special", "slurm:step-v1"),
        (
            Node::v2(),
            "/system.slice/slurmstepd.scope/job_7/step_extern/user/task_special",
            "slurm:step-v2-by-process",
        ),
    ];
    for (node, cgroup, rule) in by_process {
        let sshd = |pid: u32, parent: u32, uid: u32, command: &str| {
            node.process(&Process { pid, parent, uid, comm: "sshd", command, cgroup });
            node.set(pid, "oom_score_adj", "-998\n");
        };
        sshd(160, 1, 0, "sshd: a [priv]");
        sshd(161, 160, 1000, "sshd: a@pts/0");
        node.add(162, 161, "bash", "-bash", cgroup).add(163, 162, "python3", "python3 big.py", cgroup);
        let (found, answer) = preset(&node, "slurm");
        assert_eq!(found, [worker(rule, "job-7", "7.extern", 162, 2)]);
        assert_eq!(answer["refused"][0]["why"], "a protected process is in it");
    }
}

#[test]
fn ray_workers_and_neither_the_raylet_nor_its_agents() {
    let node = Node::v1();
    node.add(100, 1, "raylet", "/x/ray/core/src/ray/raylet/raylet --a", SESSION);
    node.add(101, 1, "gcs_server", "/x/ray/core/src/ray/gcs/gcs_server", SESSION);
    node.add(120, 100, "ray::IDLE", "ray::IDLE", SESSION);
    node.add(121, 100, "ray::f", "ray::f()", SESSION);
    node.add(122, 121, "ray::f", "ray::f()", SESSION);
    node.add(123, 100, "ray::Trainer.ru", "ray::Trainer.run", SESSION);
    node.add(124, 100, "ray::DashboardA", "ray::DashboardAgent", SESSION);
    node.add(125, 1, "ray::f", "ray::f() of nobody", SESSION);
    let (found, answer) = preset(&node, "ray");
    let expected = [
        worker("ray:worker", "raylet-100", "ray::IDLE", 120, 1),
        worker("ray:worker", "raylet-100", "ray::f", 121, 2),
        worker("ray:worker", "raylet-100", "ray::Trainer.ru", 123, 1),
        worker("ray:agent", "raylet-100", "ray::DashboardA", 124, 1),
    ];
    assert_eq!(found, expected);
    assert_eq!(names(&answer, "idle"), ["true", "false", "false", "false"]);
}

#[test]
fn dask_workers_and_neither_nanny_nor_scheduler() {
    let node = Node::v1();
    let spawned = "/usr/bin/python3 -c from\u{a0}multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=11, pipe_handle=13) --multiprocessing-fork";
    let spawned = spawned.replace('\u{a0}', " ");
    node.add(110, 1, "dask", "/usr/bin/python3 /usr/bin/dask scheduler", SESSION);
    node.add(
        111,
        1,
        "dask",
        "/usr/bin/python3 /usr/bin/dask worker tcp://127.0.0.1:8786 --nworkers 2",
        SESSION,
    );
    node.add(
        112,
        111,
        "python3",
        "/usr/bin/python3 -c from multiprocessing.resource_tracker import main;main(12)",
        SESSION,
    );
    node.add(113, 111, "python3", &spawned, SESSION).add(114, 111, "python3", &spawned, SESSION);
    node.add(115, 113, "sh", "sh -c convert", SESSION);
    node.add(116, 1, "python3", "dask worker [tcp://127.0.0.1:3000]", SESSION);
    node.add(117, 1, "python3", &spawned, SESSION);
    // A thread of the user's program is a worker: the program has its title.
    node.add(118, 1, "python3", "dask worker [inproc://127.0.0.1/7/4]", SESSION);
    node.add(119, 1, "python3", "dask worker [not started]", SESSION);
    for (pid, parent) in
        [(120, "/usr/bin/python3 /usr/bin/dask-cuda-worker x"), (122, "python3 /usr/bin/dask cuda worker x")]
    {
        node.add(pid, 1, "dask", parent, SESSION).add(pid + 1, pid, "python3", &spawned, SESSION);
    }
    let (found, _) = preset(&node, "dask");
    let expected = [
        worker("dask:worker", "dask-1000", "dask-113", 113, 2),
        worker("dask:worker", "dask-1000", "dask-114", 114, 1),
        worker("dask:titled-worker", "dask-1000", "dask-116", 116, 1),
        worker("dask:worker", "dask-1000", "dask-121", 121, 1),
        worker("dask:worker", "dask-1000", "dask-123", 123, 1),
    ];
    assert_eq!(found, expected);
}

#[test]
fn pytest_xdist_workers_and_not_the_run() {
    let node = Node::v1();
    node.add(110, 1, "pytest", "/usr/bin/python3 /usr/bin/pytest -n 2", SESSION);
    node.add(
        111,
        110,
        "python3",
        "/usr/bin/python3 -u -c import sys;exec(eval(sys.stdin.readline()))",
        SESSION,
    );
    node.add(112, 110, "python3", "[pytest-xdist running] tests/test_a.py::test_b", SESSION);
    node.add(113, 110, "python3", "[pytest-xdist idle]", SESSION);
    let (found, answer) = preset(&node, "pytest-xdist");
    let expected = [
        worker("pytest-xdist:worker", "pytest-110", "xdist-111", 111, 1),
        worker("pytest-xdist:titled-worker", "pytest-110", "xdist-112", 112, 1),
        worker("pytest-xdist:titled-worker", "pytest-110", "xdist-113", 113, 1),
    ];
    assert_eq!(found, expected);
    assert_eq!(names(&answer, "idle"), ["false", "false", "true"]);
}

#[test]
fn jupyter_kernels_and_not_the_server() {
    let node = Node::v1();
    node.add(110, 1, "jupyter-lab", "/usr/bin/python3 /usr/bin/jupyter-lab", SESSION);
    node.add(111, 110, "python3", "/usr/bin/python3 -m ipykernel_launcher -f /home/a/kernel-1.json", SESSION);
    node.add(
        112,
        110,
        "R",
        "/usr/lib/R/bin/exec/R --slave -e IRkernel::main() --args /home/a/kernel-2.json",
        SESSION,
    );
    let julia = "/usr/bin/julia -i --color=yes -e import IJulia; IJulia.run_kernel() /home/a/kernel-3.json";
    node.add(113, 110, "julia", julia, SESSION);
    let julia = "/usr/bin/julia -i /home/a/.julia/packages/IJulia/Vo51o/src/kernel.jl /home/a/kernel-4.json";
    node.add(114, 110, "julia", julia, SESSION);
    let (found, answer) = preset(&node, "jupyter");
    let rows: Vec<_> = found.iter().map(|(rule, _, name, ..)| (&**rule, &**name)).collect();
    let kernels = ["kernel-111", "kernel-112", "kernel-113", "kernel-114"];
    assert_eq!(rows, kernels.map(|name| ("jupyter:kernel", name)));
    assert_eq!(names(&answer, "retriable"), ["false"; 4]);
}

#[test]
fn pools_of_joblib_and_multiprocessing() {
    let node = Node::v1();
    node.add(110, 1, "python3", "python3 fit.py", SESSION);
    node.add(
        111,
        110,
        "python3",
        "python3 -m joblib.externals.loky.backend.popen_loky_posix --process-name LokyProcess-1 --pipe 22",
        SESSION,
    );
    node.add(112, 110, "python3", "python3 -m joblib.externals.loky.backend.resource_tracker 9", SESSION);
    // Who reads or looks for such a program is none.
    node.add(120, 1, "vim", "vim joblib.externals.loky.backend.popen_loky_posix.py", SESSION);
    node.add(121, 1, "grep", "grep -r LokyProcess-1", SESSION);
    node.add(
        122,
        1,
        "python3",
        "/home/a/my env/python3 -m loky.backend.popen_loky_posix --process-name LokyProcess-1 --pipe 9",
        SESSION,
    );
    let pools = [
        worker("joblib:worker", "pool-110", "loky-111", 111, 1),
        worker("joblib:worker", "pool-1", "loky-122", 122, 1),
    ];
    assert_eq!(preset(&node, "joblib").0, pools);

    node.add(113, 110, "python3", "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7) --multiprocessing-fork", SESSION);
    let server = "python3 -c from multiprocessing.forkserver import main; main(5, 6, ['__main__'])";
    node.add(114, 110, "python3", server, SESSION).add(115, 114, "python3", server, SESSION);
    let expected = [
        worker("multiprocessing:worker", "pool-110", "pool-113", 113, 1),
        worker("multiprocessing:forkserver-worker", "pool-114", "pool-115", 115, 1),
    ];
    assert_eq!(preset(&node, "multiprocessing").0, expected);
}

#[test]
fn spark_executors_and_not_the_driver() {
    let node = Node::v1();
    let path = "x.jar:".repeat(1000);
    node.add(
        110,
        1,
        "java",
        &format!("/usr/bin/java -cp {path} org.apache.spark.deploy.SparkSubmit app.py"),
        SESSION,
    );
    node.add(111, 1, "java", &format!("/usr/bin/java -cp {path} org.apache.spark.executor.CoarseGrainedExecutorBackend --driver-url spark://x --executor-id 3 --hostname h --cores 2 --app-id app-2026-0001 --worker-url y"), SESSION);
    node.add(112, 111, "python3", "python3 -m pyspark.daemon", SESSION);
    node.add(113, 1, "java", &format!("/usr/bin/java -cp {path} org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend --driver-url spark://x --executor-id 4 --cores 2 --app-id spark-7 --hostname h --podName p"), SESSION);
    let executors = [
        worker("spark:executor", "app-2026-0001", "executor-3", 111, 2),
        worker("spark:executor", "spark-7", "executor-4", 113, 1),
    ];
    assert_eq!(preset(&node, "spark").0, executors);
}

#[test]
fn jobs_of_ci_runners_and_not_the_runners() {
    let node = Node::v1();
    let service = "/system.slice/ci.service";
    node.add(110, 1, "gitlab-runner", "/usr/bin/gitlab-runner run", service);
    node.add(111, 110, "bash", "bash --login", service).add(112, 111, "make", "make -j", service);
    assert_eq!(
        preset(&node, "gitlab-runner").0,
        [worker("gitlab-runner:job", "gitlab-runner-110", "job-111", 111, 2)]
    );

    node.add(120, 1, "Runner.Listener", "/home/r/bin/Runner.Listener run", service);
    node.add(121, 120, "Runner.Worker", "/home/r/bin/Runner.Worker spawnclient 1 2", service);
    node.add(122, 121, "bash", "/usr/bin/bash -e /home/r/_temp/a.sh", service)
        .add(123, 122, "cc", "cc a.c", service);
    assert_eq!(
        preset(&node, "github-runner").0,
        [worker("github-runner:step", "github-runner-121", "step-122", 122, 2)]
    );

    node.add(130, 1, "buildkite-agent", "/usr/bin/buildkite-agent start", service);
    node.add(131, 130, "buildkite-agent", "/usr/bin/buildkite-agent bootstrap --job 7", service);
    node.add(132, 131, "bash", "/bin/bash -e -c make", service).add(133, 132, "make", "make", service);
    assert_eq!(
        preset(&node, "buildkite").0,
        [worker("buildkite:command", "buildkite-131", "job-131", 132, 2)]
    );
}

#[test]
fn system_protects_by_cgroups_that_root_owns() {
    let node = Node::v2();
    let service = |pid: u32, uid: u32, comm: &str, cgroup: &str| {
        node.process(&Process { pid, parent: 1, uid, comm, command: comm, cgroup });
    };
    service(110, 0, "sshd", "/system.slice/ssh.service");
    service(111, 101, "dbus-daemon", "/system.slice/dbus.service");
    service(112, 0, "leak", "/system.slice/leak.service");
    // A user's job in the cgroup of a service.
    service(113, 1000, "job", "/system.slice/cron.service");
    let (_, answer) = preset(&node, "system");
    let protected = answer["protected"].as_array().unwrap().iter();
    let protected: Vec<_> =
        protected.map(|one| (one["pid"].as_u64().unwrap(), one["rule"].as_str().unwrap())).collect();
    let by = "system:service-cgroups";
    assert_eq!(protected, [(1, "system:init"), (110, by), (111, by)]);
    let unmatched: Vec<&Value> =
        answer["unmatched"].as_array().unwrap().iter().map(|one| &one["pid"]).collect();
    assert_eq!(unmatched, [113, 112]);
}
