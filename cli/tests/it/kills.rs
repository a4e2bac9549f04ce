//! Workers killed at every step, before S3 has heard of a call and after it has done it: another worker
//! makes one final object of the right bytes, copies nothing twice but what was under way, once it is written
//! down, and leaves nothing behind. On the production set the real program is killed; on the embedded set, where
//! the S3 server lives in the same process, everything that the worker does ends at once.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use uuid::Uuid;

use crate::client::{KIB, MIB, Upload, noise};
use crate::harness::{Backend, Options, Stack, Suite, eventually};
use crate::mortal::Mortal;
use crate::processes::{environment, with};
use crate::programs::Running;
use crate::proxy::{Fault, Operation};
use crate::suite;

pub const SUITE: Suite = suite! { "kills":
    a_worker_may_be_killed_at_any_step_of_copying,
    a_worker_may_be_killed_at_any_step_of_streaming,
    a_worker_may_be_killed_at_any_step_of_copying_ahead,
    a_worker_may_be_killed_at_any_step_of_streaming_ahead,
    a_worker_may_be_killed_over_an_empty_file,
};

/// Scenarios under way at once, each with a stack of its own.
const STACKS: usize = 4;

enum Killable {
    Mortal(Mortal),
    Process(Running),
}

impl Killable {
    async fn start(stack: &Stack) -> Self {
        if stack.backend() == Backend::Embedded {
            return Killable::Mortal(stack.start_mortal_worker().await);
        }
        let mut environment = environment(stack);
        environment.insert("S3_ENDPOINT_URL", stack.proxy().url().to_string());
        environment.insert("UPFLOW_COPIES", "1".to_owned());
        environment.insert("UPFLOW_LEASE", "2s".to_owned());
        environment.insert("UPFLOW_CLEANUP_GRACE", "1s".to_owned());
        environment.insert("UPFLOW_JANITOR_INTERVAL", "200ms".to_owned());
        Killable::Process(Running::start(&mut with("upflow-worker", stack, &environment)))
    }

    async fn kill(self) {
        match self {
            Killable::Mortal(worker) => worker.kill().await,
            Killable::Process(worker) => worker.kill().await,
        }
    }
}

/// What is done before a worker comes, and after it was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    /// All is sent and the upload is to be assembled.
    Assemble,
    /// All is sent and confirmed; the client says that it is all only after the kill.
    Ahead,
}

struct Plan {
    job: Job,
    bytes: Bytes,
    chunk_size: usize,
}

impl Plan {
    async fn begin(&self, stack: &Stack) -> Upload {
        let upload = stack.plan("file.bin", &self.bytes, self.chunk_size).await;
        if !self.bytes.is_empty() {
            upload.send_all(&self.bytes).await;
        }
        if self.job == Job::Assemble {
            upload.complete().await.expect(202);
        }
        upload
    }

    /// How far a worker gets with it.
    async fn end(&self, upload: &Upload) {
        match self.job {
            Job::Assemble => drop(upload.wait_for("completed").await),
            Job::Ahead => {
                eventually("all is copied", || async {
                    let copied = upload.get().await["assembled_chunks"].as_u64().unwrap();
                    (copied as usize == upload.total()).then_some(())
                })
                .await;
            }
        }
    }
}

async fn own_stack(stack: &Stack) -> Stack {
    let mut options = Options { proxied: true, ..Options::default() };
    options.worker.lease = Duration::from_secs(2);
    options.worker.janitor_interval = Duration::from_millis(200);
    // One after the other, so that a step is the same in every run.
    options.worker.copies = 1;
    let stack = stack.sibling(options).await;
    stack.stop_workers().await;
    stack
}

fn calls(stack: &Stack, upload: Uuid) -> Vec<Operation> {
    let calls = stack.proxy().calls();
    let of_worker = calls.iter().filter(|call| call.upload == Some(upload) && !call.presigned);
    of_worker.map(|call| call.operation).collect()
}

async fn killed_at_any_step(stack: Stack, plan: Plan) {
    let first = own_stack(&stack).await;
    let smooth = plan.begin(&first).await;
    first.proxy().forget_calls();
    let worker = Killable::start(&first).await;
    plan.end(&smooth).await;
    if plan.job == Job::Assemble {
        smooth.assert_whole(&plan.bytes).await;
    }
    let steps = calls(&first, smooth.id);
    smooth.complete_and_wait().await;
    smooth.assert_whole(&plan.bytes).await;
    worker.kill().await;
    assert!(steps.len() >= 2, "{steps:?}");

    let scenarios: Vec<(usize, Fault)> = (0..steps.len())
        .flat_map(|step| [(step, Fault::HoldRequest), (step, Fault::HoldAnswer)])
        .collect();
    let (plan, steps, stack) = (&plan, &steps, &stack);
    stream::iter(scenarios)
        .for_each_concurrent(STACKS, |(step, fault)| async move {
            let stack = own_stack(stack).await;
            killed_at(&stack, plan, steps, step, fault).await;
            stack.tear_down().await;
        })
        .await;
}

async fn killed_at(stack: &Stack, plan: &Plan, steps: &[Operation], step: usize, fault: Fault) {
    let operation = steps[step];
    let of_copies = |calls: &[Operation]| {
        calls.iter().filter(|call| **call == Operation::UploadPartCopy).count()
    };
    let upload = plan.begin(stack).await;
    stack.proxy().forget_calls();
    let (id, proxy) = (upload.id, stack.proxy().clone());
    stack.proxy().rule(move |call| {
        // The list has this call already.
        let calls = proxy.calls();
        let before = calls[..call.number]
            .iter()
            .filter(|call| call.upload == Some(id) && !call.presigned)
            .count();
        let ours = call.upload == Some(id) && !call.presigned;
        (ours && before == step).then_some(fault)
    });
    let mut held = stack.proxy().held();
    let worker = Killable::start(stack).await;
    let reached = tokio::time::timeout(Duration::from_secs(60), held.wait_for(|held| *held > 0));
    reached
        .await
        .unwrap_or_else(|_| panic!("step {step}, {operation:?}, was not reached"))
        .unwrap();
    // Also while the next one hangs.
    eventually("what was copied is written down", || async {
        let written = upload.get().await["assembled_chunks"].as_u64().unwrap();
        (written as usize >= of_copies(&steps[..step])).then_some(())
    })
    .await;
    worker.kill().await;
    stack.proxy().pass_all();
    if plan.job == Job::Ahead {
        upload.complete().await.expect(202);
    }
    let worker = Killable::start(stack).await;
    let done = upload.wait_for("completed").await;
    assert_eq!(done["assembled_chunks"], upload.total(), "killed at {operation:?}");
    upload.assert_whole(&plan.bytes).await;
    worker.kill().await;
    let calls = calls(stack, id);
    let copied_once = if plan.chunk_size >= 5 * MIB { upload.total() } else { 0 };
    // Only what was under way at the kill is copied again.
    assert!(
        of_copies(&calls) <= copied_once + 1,
        "killed at {fault:?} of {operation:?}: {calls:?}"
    );
    let events = upload.events().await;
    assert_eq!(events.iter().filter(|event| *event == "assembly_finished").count(), 1);
}

async fn a_worker_may_be_killed_at_any_step_of_copying(stack: Stack) {
    let (job, bytes) = (Job::Assemble, noise(10 * MIB + 100 * KIB));
    killed_at_any_step(stack, Plan { job, bytes, chunk_size: 5 * MIB }).await;
}

async fn a_worker_may_be_killed_at_any_step_of_streaming(stack: Stack) {
    let (job, bytes) = (Job::Assemble, noise(2 * 64 * KIB + 7));
    killed_at_any_step(stack, Plan { job, bytes, chunk_size: 64 * KIB }).await;
}

async fn a_worker_may_be_killed_at_any_step_of_copying_ahead(stack: Stack) {
    let (job, bytes) = (Job::Ahead, noise(10 * MIB + 100 * KIB));
    killed_at_any_step(stack, Plan { job, bytes, chunk_size: 5 * MIB }).await;
}

async fn a_worker_may_be_killed_at_any_step_of_streaming_ahead(stack: Stack) {
    let (job, bytes) = (Job::Ahead, noise(2 * 64 * KIB + 7));
    killed_at_any_step(stack, Plan { job, bytes, chunk_size: 64 * KIB }).await;
}

async fn a_worker_may_be_killed_over_an_empty_file(stack: Stack) {
    let (job, bytes) = (Job::Assemble, noise(0));
    killed_at_any_step(stack, Plan { job, bytes, chunk_size: 64 * KIB }).await;
}
