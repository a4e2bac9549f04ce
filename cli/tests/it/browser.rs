//! The demo in a real browser. The scenarios are in `cli/tests/browser`, one for each test here, and drive
//! Chromium by playwright-core; this side starts what they need, kills it where they ask, and looks into the
//! bucket, so that no page is believed about itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use upflow_api::limits::ClientLimits;
use upflow_core::storage::{chunks, finals};
use uuid::Uuid;

use crate::harness::{Backend, Options, Stack, Suite, eventually};
use crate::locked::Locked;
use crate::programs::{self, free_port, program, serves};
use crate::suite;

/// Browsers at once: each keeps a core busy.
static BROWSERS: Semaphore = Semaphore::const_new(2);

const EXPIRING: &str = "urls_that_really_expire_on_the_way_are_replaced";
const CANCELLED: &str = "cancelled_it_leaves_nothing_in_the_bucket";
const LOCKED: &str = "a_locked_server_asks_for_a_key_and_a_refresh_goes_on_with_the_token";
const LATE: &str = "a_late_refusal_takes_no_key_away";
const DEAD_TOKEN: &str = "a_token_that_has_died_is_replaced_by_the_key";
const RESTARTED: &str = "a_server_restarted_in_the_middle_loses_nothing";

/// Tests that are the scenario of the same name.
macro_rules! scenarios {
    (both sets { $($both:ident,)* } embedded set { $($page:ident,)* }) => {
        $(async fn $both(stack: Stack) {
            scenario(&stack, stringify!($both), &mut Server::Stack(&stack)).await;
        })*
        $(async fn $page(stack: Stack) {
            scenario(&stack, stringify!($page), &mut Server::Stack(&stack)).await;
        })*

        const SCENARIOS: &[&str] =
            &[EXPIRING, CANCELLED, RESTARTED, LOCKED, LATE, DEAD_TOKEN, $(stringify!($both),)* $(stringify!($page),)*];

        const BOTH: Suite = suite! { "browser":
            urls_that_really_expire_on_the_way_are_replaced,
            cancelled_it_leaves_nothing_in_the_bucket,
            a_server_restarted_in_the_middle_loses_nothing,
            a_locked_server_asks_for_a_key_and_a_refresh_goes_on_with_the_token,
            a_token_that_has_died_is_replaced_by_the_key,
            $($both,)*
        };

        /// What is the page's alone, wherever the bytes go.
        const PAGE: Suite = suite! { "browser":
            every_scenario_is_a_test,
            a_late_refusal_takes_no_key_away,
            the_search_for_the_best_number_of_connections_ends_where_it_should,
            little_is_left_to_confirm_at_the_end_and_few_calls_are_made_for_it,
            $($page,)*
        };
    };
}

scenarios! {
    both sets {
        files_of_no_byte_and_of_one_arrive,
        a_file_of_200_mib_arrives_in_chunks_of_8_mib,
        a_file_of_10_mib_arrives_in_chunks_of_64_kib,
        several_files_at_once_arrive,
        the_download_of_the_page_is_the_file,
        refreshed_in_the_middle_it_goes_on_by_itself,
        refreshed_in_the_middle_it_goes_on_with_the_same_file,
        the_tab_closed_and_another_opened_it_goes_on,
        the_browser_closed_and_opened_again_it_goes_on_by_itself,
        the_browser_crashed_it_goes_on_with_the_same_file,
        a_file_that_changed_is_refused,
        a_line_that_was_cut_costs_nothing_but_time,
        offline_it_waits_and_goes_on_when_the_connection_is_back,
        a_storage_that_says_503_is_outlasted,
        urls_that_have_died_are_replaced,
        paused_not_a_byte_moves,
        memory_does_not_grow_with_the_file,
        the_policy_refuses_foreign_scripts_and_hosts,
        axe_finds_no_violation_in_any_state,
    }
    embedded set {
        a_chunk_is_confirmed_while_another_takes_long,
        checksums_are_right_however_the_browser_reads,
        a_file_that_is_gone_is_not_taken_for_an_empty_one,
        a_file_cut_short_or_deleted_while_it_is_sent_says_so,
        paused_before_a_refresh_it_waits_to_be_told,
        while_one_tab_sends_another_leaves_the_upload_alone,
        a_file_that_changed_is_refused_when_it_would_go_on_by_itself,
        the_number_of_connections_follows_the_line,
        the_panel_shows_the_flow_and_no_secret,
        everything_can_be_done_with_the_keyboard,
        the_documentation_page_runs_a_whole_upload,
    }
}

/// Ignored where nobody says where the browser is; with `scripts/test` never.
pub fn trials(backend: Backend) -> Vec<Trial> {
    let set = |name| std::env::var_os(name).is_some();
    let there = set("TEST_CHROMIUM") && set("TEST_BROWSER_PACKAGES");
    let mut trials = BOTH.trials(backend);
    if backend == Backend::Embedded {
        trials.extend(PAGE.trials(backend));
    }
    if there || set("TEST_REQUIRE_SERVICES") {
        return trials;
    }
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

async fn every_scenario_is_a_test(stack: Stack) {
    let listed = programs::run(node(stack.dir()).arg("--list")).await;
    let mut scenarios: Vec<_> = listed.out.lines().collect();
    let mut tests = SCENARIOS.to_vec();
    scenarios.sort_unstable();
    tests.sort_unstable();
    assert_eq!(scenarios, tests, "{}", listed.err);
}

async fn the_search_for_the_best_number_of_connections_ends_where_it_should(stack: Stack) {
    computed(&stack, "connections.mjs").await;
}

async fn little_is_left_to_confirm_at_the_end_and_few_calls_are_made_for_it(stack: Stack) {
    computed(&stack, "confirming.mjs").await;
}

/// Without a browser: pure logic, on a simulated clock.
async fn computed(stack: &Stack, script: &str) {
    let script = browser_tests().join(script);
    let ended = programs::run(Command::new("node").arg(script).current_dir(stack.dir())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

async fn urls_that_really_expire_on_the_way_are_replaced(stack: Stack) {
    let stack = short_lived(&stack, 2).await;
    scenario(&stack, EXPIRING, &mut Server::Stack(&stack)).await;
}

/// A chunk that was on its way when the upload was cancelled is removed once no URL is alive any more.
async fn cancelled_it_leaves_nothing_in_the_bucket(stack: Stack) {
    let stack = short_lived(&stack, 6).await;
    scenario(&stack, CANCELLED, &mut Server::Stack(&stack)).await;
}

/// Another UpFlow, whose URLs live for so many seconds.
async fn short_lived(stack: &Stack, seconds: u64) -> Stack {
    let mut options = Options::default();
    options.limits.url_life = Duration::from_secs(seconds);
    stack.sibling(options).await
}

async fn a_server_restarted_in_the_middle_loses_nothing(stack: Stack) {
    if stack.backend() != Backend::Embedded {
        return scenario(&stack, RESTARTED, &mut Server::Stack(&stack)).await;
    }
    // As people run it: API, S3, database and worker are one process, which is killed.
    let mut bare = Server::Bare(Bare::start(&stack).await);
    scenario(&stack, RESTARTED, &mut bare).await;
}

async fn a_locked_server_asks_for_a_key_and_a_refresh_goes_on_with_the_token(stack: Stack) {
    locked(&stack, LOCKED).await;
}

async fn a_token_that_has_died_is_replaced_by_the_key(stack: Stack) {
    locked(&stack, DEAD_TOKEN).await;
}

async fn a_late_refusal_takes_no_key_away(stack: Stack) {
    locked(&stack, LATE).await;
}

async fn locked(stack: &Stack, name: &str) {
    let locked = Locked::start(stack, ClientLimits::default()).await;
    let stack = locked.stack.clone();
    scenario(&stack, name, &mut Server::Locked(locked)).await;
}

/// What a scenario's page is served by.
enum Server<'a> {
    Stack(&'a Stack),
    Locked(Locked),
    Bare(Bare),
}

impl Server<'_> {
    fn page(&self) -> String {
        match self {
            Server::Stack(stack) => stack.url("/"),
            Server::Locked(locked) => locked.stack.url("/"),
            Server::Bare(bare) => format!("http://127.0.0.1:{}/", bare.port),
        }
    }

    fn s3(&self) -> String {
        match self {
            Server::Stack(stack) => stack.ctx().storage.public_origin(),
            Server::Locked(locked) => locked.stack.ctx().storage.public_origin(),
            Server::Bare(bare) => format!("http://127.0.0.1:{}", bare.s3_port),
        }
    }

    /// The API key that it asks for.
    fn key(&self) -> Option<&str> {
        match self {
            Server::Locked(locked) => Some(&locked.shop),
            Server::Stack(_) | Server::Bare(_) => None,
        }
    }

    /// Whose bucket this process can look into.
    fn stack(&self) -> Option<&Stack> {
        match self {
            Server::Stack(stack) => Some(stack),
            Server::Locked(locked) => Some(&locked.stack),
            Server::Bare(_) => None,
        }
    }

    async fn stop(&mut self) {
        match self {
            Server::Stack(stack) => {
                stack.stop_api().await;
                stack.stop_workers().await;
            }
            Server::Locked(_) => panic!("no scenario stops a locked server"),
            Server::Bare(bare) => bare.running.take().unwrap().kill().await,
        }
    }

    async fn start(&mut self, stack: &Stack) {
        match self {
            Server::Stack(stack) => {
                stack.start_api().await;
                stack.start_worker();
            }
            Server::Locked(_) => panic!("no scenario stops a locked server"),
            Server::Bare(bare) => bare.serve(stack).await,
        }
    }

    /// That the finished file is the one at `path`, and that nothing else is left in the bucket.
    async fn whole(&self, stack: &Stack, id: Uuid, path: &Path) {
        let url = format!("{}uploads/{id}/download", self.page());
        let mut request = stack.http().get(url);
        if let Some(key) = self.key() {
            request = request.bearer_auth(key);
        }
        let download: Value = request.send().await.unwrap().json().await.unwrap();
        let url = download["url"].as_str().unwrap();
        let found = stack.http().get(url).send().await.unwrap().bytes().await.unwrap();
        assert!(found == std::fs::read(path).unwrap(), "{} is not the file", path.display());
        if let Some(stack) = self.stack() {
            nothing_under(stack, &chunks(id)).await;
        }
    }
}

/// `upflow`, in a folder of its own.
struct Bare {
    port: u16,
    s3_port: u16,
    running: Option<programs::Running>,
}

impl Bare {
    async fn start(stack: &Stack) -> Self {
        let mut bare = Self { port: free_port(), s3_port: free_port(), running: None };
        bare.serve(stack).await;
        bare
    }

    async fn serve(&mut self, stack: &Stack) {
        let mut command = program("upflow");
        let (port, s3_port) = (self.port.to_string(), self.s3_port.to_string());
        command.current_dir(stack.dir()).args(["--port", &port, "--s3-port", &s3_port]);
        self.running = Some(programs::Running::start(&mut command));
        serves(stack.http(), self.port).await;
    }
}

async fn nothing_under(stack: &Stack, prefix: &str) {
    eventually(&format!("nothing is left under {prefix}"), || async {
        let page = stack.ctx().storage.list(prefix, None).await.unwrap();
        page.objects.is_empty().then_some(())
    })
    .await;
}

fn browser_tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// `node run.mjs`, with what it needs to find its packages and the browser.
fn node(folder: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(browser_tests().join("run.mjs")).env("TEST_FOLDER", folder).kill_on_drop(true);
    command
}

/// Runs a scenario to its end, and does what it asks for meanwhile.
async fn scenario(stack: &Stack, name: &str, server: &mut Server<'_>) {
    let _place = BROWSERS.acquire().await.unwrap();
    let mut command = node(stack.dir());
    command.arg(name).env("TEST_PAGE", server.page()).env("TEST_S3_ORIGIN", server.s3());
    if let Some(key) = server.key() {
        command.env("TEST_KEY", key);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("node, as scripts/test finds it");
    let stderr = tokio::spawn(read(child.stderr.take().unwrap()));
    let ends = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    answer(stack, server, ends).await;
    let status = child.wait().await.unwrap();
    let said = stderr.await.unwrap();
    assert!(status.success(), "{said}");
}

async fn read(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut text = String::new();
    let _ = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await;
    text
}

/// A question a line, until the scenario has ended.
async fn answer(
    stack: &Stack,
    server: &mut Server<'_>,
    (mut answers, questions): (ChildStdin, ChildStdout),
) {
    let mut questions = BufReader::new(questions).lines();
    while let Some(line) = questions.next_line().await.unwrap() {
        let question: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let id = || -> Uuid { question["upload_id"].as_str().unwrap().parse().unwrap() };
        match question["ask"].as_str().unwrap() {
            "stop_server" => server.stop().await,
            "start_server" => server.start(stack).await,
            "whole" => {
                let path = Path::new(question["path"].as_str().unwrap());
                server.whole(stack, id(), path).await;
            }
            "nothing" => {
                nothing_under(stack, &chunks(id())).await;
                nothing_under(stack, &finals(id())).await;
                let left =
                    stack.ctx().storage.list_multiparts(&finals(id()), None).await.unwrap().uploads;
                assert!(left.is_empty(), "multipart uploads are left: {left:?}");
            }
            other => panic!("{other} is not a question"),
        }
        answers.write_all(format!("{}\n", json!({})).as_bytes()).await.unwrap();
    }
}
