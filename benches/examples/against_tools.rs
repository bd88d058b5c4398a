//! Our queues, loaded by the harness, beside the servers' own tools: same server, rounds interleaved.
//!
//! ```text
//! cargo build --release -p queuebench
//! queuebench up nats           # prints the address; also `up kafka`
//! cargo run --release -p queuebench-benches --example against_tools -- nats nats://127.0.0.1:4222 [rounds]
//! cargo run --release -p queuebench-benches --example against_tools -- kafka 127.0.0.1:9092 'libs/*' [rounds]
//! ```
//!
//! `nats` wants the `nats` program on the path, `kafka` wants `java` and the class path of a distribution; both
//! want `timeout`.
//! Ours is a whole `queuebench run`: messages go through the queue trait, and ledger and recorder are on, so
//! every message is stamped, checksummed, remembered and accounted for. A round in which ours lost one fails.
//!
//! What is not equal, and stays so: `nats bench js pub async` sends `--batch` messages and waits for all their
//! answers before it sends the next batch, ours slides; ours has a durable consumer on the stream while it
//! publishes, the tool has none; the rows "with ids" hold ours against the tool's `--dedup`.
//! `ConsumerPerformance` is taken at its fetch-only figure, without the joining of its group, as our consumers
//! have joined before they are let go. The tools' own start (and Java's warm-up) is in their figures as they
//! print them.

#![expect(clippy::print_stdout, reason = "a measuring program prints its table")]

use std::path::{Path, PathBuf};
use std::process::Command;

use queuebench_reports::record::{Run, Trial};

type Failure = Box<dyn std::error::Error>;

/// What a tool is left to send; three to ten seconds of it.
const NATS_MESSAGES: &str = "200000";

fn main() -> Result<(), Failure> {
    let usage = "want `nats URL [rounds]` or `kafka ADDRESS CLASSPATH [rounds]`";
    let mut arguments = std::env::args().skip(1);
    let system = arguments.next().ok_or(usage)?;
    let address = arguments.next().ok_or(usage)?;
    let class_path = if system == "kafka" { arguments.next().ok_or(usage)? } else { String::new() };
    let rounds: usize = arguments.next().map_or(Ok(4), |rounds| rounds.parse())?;
    let bench = Bench { address, class_path, rounds, scratch: scratch()? };
    println!("{:<34} {:>12} {:>12} {:>6}  rounds (ours/tool)", "medians", "ours", "tool", "ratio");
    let result = match system.as_str() {
        "nats" => [100, 1_024].into_iter().try_for_each(|size| bench.nats(size)),
        "kafka" => [100, 1_024].into_iter().try_for_each(|size| bench.kafka(size)),
        _ => Err(usage.into()),
    };
    std::fs::remove_dir_all(&bench.scratch)?;
    result
}

fn scratch() -> Result<PathBuf, Failure> {
    let folder = std::env::temp_dir().join(format!("queuebench-against-tools-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

struct Bench {
    address: String,
    class_path: String,
    rounds: usize,
    scratch: PathBuf,
}

/// One row of the table, in pairs of ours and the tool's.
#[derive(Default)]
struct Row(Vec<[f64; 2]>);

/// What one run of ours says.
struct Ours {
    publish_per_s: f64,
    drain_per_s: f64,
    one_at_a_time_p90_us: f64,
}

impl Bench {
    fn nats(&self, size: usize) -> Result<(), Failure> {
        let [mut publish, mut with_ids, mut consume, mut sync] = [(); 4].map(|()| Row::default());
        let size_text = size.to_string();
        let bench = |kind: &[&str]| {
            let common =
                ["--stream", "AGAINST", "--msgs", NATS_MESSAGES, "--size", &size_text, "--no-progress"];
            self.nats_tool(&[&["bench", "js"], kind, &common].concat())
        };
        for _ in 0..self.rounds {
            let plain = self.ours("nats", &nats_profile(size, "none"))?;
            let named = self.ours("nats", &nats_profile(size, "unique"))?;
            self.fresh_stream()?;
            publish.push(
                plain.publish_per_s,
                nats_rate(&bench(&["pub", "async", "against", "--batch", "500"])?)?,
            );
            let drained = bench(&["consume", "--batch", "500", "--acks", "explicit"])?;
            consume.push(plain.drain_per_s, nats_rate(&drained)?);
            self.fresh_stream()?;
            let dedup = bench(&["pub", "async", "against", "--batch", "500", "--dedup"])?;
            with_ids.push(named.publish_per_s, nats_rate(&dedup)?);
            self.fresh_stream()?;
            let single = self.nats_tool(&[
                "bench",
                "js",
                "pub",
                "sync",
                "against",
                "--stream",
                "AGAINST",
                "--msgs",
                "10000",
                "--size",
                &size_text,
                "--no-progress",
            ])?;
            sync.push(plain.one_at_a_time_p90_us, nats_p90_us(&single)?);
        }
        self.nats_tool(&["stream", "rm", "AGAINST", "-f"])?;
        publish.print(&format!("publish {size} B, 500 in flight, /s"));
        with_ids.print("the same with ids, /s");
        consume.print(&format!("drain {size} B, each acked, /s"));
        sync.print(&format!("one {size} B in flight, p90 µs"));
        Ok(())
    }

    fn fresh_stream(&self) -> Result<(), Failure> {
        // It may not be there.
        let _ = self.nats_tool(&["stream", "rm", "AGAINST", "-f"]);
        self.nats_tool(&[
            "stream",
            "add",
            "AGAINST",
            "--subjects",
            "against",
            "--storage",
            "file",
            "--discard",
            "new",
            "--defaults",
        ])?;
        Ok(())
    }

    fn nats_tool(&self, arguments: &[&str]) -> Result<String, Failure> {
        told(tool("nats").args(["--no-context", "-s", &self.address]).args(arguments))
    }

    fn kafka(&self, size: usize) -> Result<(), Failure> {
        let [mut large, mut default, mut consume] = [(); 3].map(|()| Row::default());
        let (count, in_flight) = if size < 512 { (3_000_000, 100_000) } else { (600_000, 10_000) };
        for round in 0..self.rounds {
            let topic = format!("against-tools-{size}-{}-{round}", std::process::id());
            self.kafka_topic("--create", &topic, &["--partitions", "4"])?;
            for (row, batch_bytes) in [(&mut large, 1_048_576), (&mut default, 16_384)] {
                let ours = self.ours("kafka", &kafka_profile(size, in_flight, batch_bytes))?;
                row.push(ours.publish_per_s, self.kafka_publish(&topic, size, count, batch_bytes)?);
                if batch_bytes > 16_384 {
                    consume.push(ours.drain_per_s, self.kafka_consume(&topic, count)?);
                }
            }
            self.kafka_topic("--delete", &topic, &[])?;
        }
        large.print(&format!("publish {size} B, batch 1 MiB, /s"));
        default.print(&format!("publish {size} B, batch 16 KiB, /s"));
        consume.print(&format!("drain {size} B, offsets stored, /s"));
        Ok(())
    }

    fn kafka_topic(&self, action: &str, topic: &str, more: &[&str]) -> Result<(), Failure> {
        let about = ["--bootstrap-server", &self.address, action, "--topic", topic];
        self.kafka_tool("org.apache.kafka.tools.TopicCommand", &[&about[..], more].concat())?;
        Ok(())
    }

    fn kafka_publish(&self, topic: &str, size: usize, count: u64, batch: u32) -> Result<f64, Failure> {
        let [count, size] = [count.to_string(), size.to_string()];
        let servers = format!("bootstrap.servers={}", self.address);
        let batch = format!("batch.size={batch}");
        let said = self.kafka_tool(
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--topic",
                topic,
                "--num-records",
                &count,
                "--record-size",
                &size,
                "--throughput",
                "-1",
                "--producer-props",
                &servers,
                "acks=all",
                "linger.ms=5",
                &batch,
            ],
        )?;
        // "3000000 records sent, 919399.3 records/sec (…), …" is its last line.
        let last = said.lines().rev().find(|line| line.contains("records sent")).ok_or("no result line")?;
        Ok(last.split(", ").nth(1).and_then(|part| part.split(' ').next()).ok_or("no rate")?.parse()?)
    }

    fn kafka_consume(&self, topic: &str, count: u64) -> Result<f64, Failure> {
        let messages = count.to_string();
        let group = format!("{topic}-tool");
        let said = self.kafka_tool(
            "org.apache.kafka.tools.ConsumerPerformance",
            &[
                "--bootstrap-server",
                &self.address,
                "--topic",
                topic,
                "--messages",
                &messages,
                "--group",
                &group,
                "--hide-header",
            ],
        )?;
        // start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s, fetch messages/s
        let line = said.lines().rev().find(|line| line.split(", ").count() >= 10).ok_or("no result line")?;
        Ok(line.split(", ").nth(9).ok_or("no rate")?.parse()?)
    }

    fn kafka_tool(&self, class: &str, arguments: &[&str]) -> Result<String, Failure> {
        told(tool("java").args(["-Xmx1g", "-cp", &self.class_path, class]).args(arguments))
    }

    /// One trial of the harness against the same server.
    fn ours(&self, system: &str, profile: &str) -> Result<Ours, Failure> {
        let file = self.scratch.join("profile.toml");
        std::fs::write(&file, profile)?;
        let out = self.scratch.join("runs");
        let variable = if system == "nats" { "NATS_URL" } else { "KAFKA_BROKERS" };
        let mut run = Command::new(beside("queuebench")?);
        told(run.env(variable, &self.address).arg("run").arg(&file).arg("--out").arg(&out))?;
        let trial = trial(&out)?;
        std::fs::remove_dir_all(&out)?;
        let phase = |name: &str| trial.phases.iter().find(|phase| phase.name == name);
        let publish = phase("publish").ok_or("no phase `publish`")?;
        Ok(Ours {
            publish_per_s: publish.achieved_per_s,
            drain_per_s: trial.backlog.as_ref().ok_or("no backlog")?.drain_per_s,
            one_at_a_time_p90_us: phase("single").ok_or("no phase `single`")?.service_us.p90,
        })
    }
}

/// A program of the same build.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let me = std::env::current_exe()?;
    let program = me.ancestors().nth(2).unwrap_or(Path::new(".")).join(name);
    if program.exists() { Ok(program) } else { Err("first: cargo build --release -p queuebench".into()) }
}

/// The only trial of the only run in `out`.
fn trial(out: &Path) -> Result<Trial, Failure> {
    let records = std::fs::read_dir(out)?.filter_map(|entry| Some(entry.ok()?.path().join("result.json")));
    let record = records.into_iter().find(|path| path.is_file()).ok_or("no record")?;
    let run: Run = serde_json::from_slice(&std::fs::read(record)?)?;
    let mut trials = run.subjects.into_iter().flat_map(|subject| subject.trials);
    Ok(trials.next().ok_or("no trial")?)
}

/// One message at a time, which also warms up; then as many as fit in flight; then the backlog is drained.
/// `workload` and `subject` hold the lines that differ.
fn profile(size: usize, in_flight: u32, workload: &str, subject: &str) -> String {
    format!(
        r#"
name = "against-tools"
trials = 1
drain_deadline = "120s"
[workload]
payload = "{size}B"
keys = {{ kind = "none" }}
{workload}
[[phase]]
name = "single"
model = "closed"
in_flight = 1
duration = "2s"
consumers = "paused"
[[phase]]
name = "publish"
model = "closed"
in_flight = {in_flight}
duration = "3s"
consumers = "paused"
[[phase]]
name = "drain"
model = "open"
rate = "10/s"
duration = "5s"
{subject}
"#
    )
}

fn nats_profile(size: usize, message_ids: &str) -> String {
    profile(size, 500, &format!("message_ids = {message_ids:?}"), "[subjects.nats]")
}

fn kafka_profile(size: usize, in_flight: u32, batch_bytes: u32) -> String {
    let subject = format!("[subjects.kafka]\nlinger_ms = 5\nbatch_bytes = {batch_bytes}");
    profile(size, in_flight, "", &subject)
}

/// A tool that is given up after a while: the consumers among them wait for ever for a message too few.
fn tool(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", program]);
    command
}

/// What a program printed, if it ended well.
fn told(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let said = text(&output.stdout) + &text(&output.stderr);
        return Err(format!("{command:?}: {}\n{said}", output.status).into());
    }
    Ok(text(&output.stdout) + &text(&output.stderr))
}

/// The first "123,456 msgs/sec" of the tool.
fn nats_rate(said: &str) -> Result<f64, Failure> {
    let before = said.split(" msgs/sec").next().and_then(|head| head.rsplit(' ').next());
    Ok(before.ok_or("no rate")?.replace(',', "").parse()?)
}

/// "P90: 152.10us": the tool prints no p95, so p90 is compared.
fn nats_p90_us(said: &str) -> Result<f64, Failure> {
    let after = said.split("P90: ").nth(1).and_then(|tail| tail.split("us").next());
    Ok(after.ok_or("no P90")?.replace(',', "").parse()?)
}

impl Row {
    fn push(&mut self, ours: f64, tool: f64) {
        self.0.push([ours, tool]);
    }

    fn print(&self, what: &str) {
        let median_of = |value: fn(&[f64; 2]) -> f64| median(self.0.iter().map(value).collect());
        let rounds: Vec<String> = self.0.iter().map(|[ours, tool]| format!("{ours:.0}/{tool:.0}")).collect();
        println!(
            "{what:<34} {:>12.0} {:>12.0} {:>6.2}  {}",
            median_of(|pair| pair[0]),
            median_of(|pair| pair[1]),
            median_of(|pair| pair[0] / pair[1]),
            rounds.join(" ")
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
