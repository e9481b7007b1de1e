//! Files that are too large, damaged or not what they say, and disks that are
//! full: a clear error, little memory, and nothing half written.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use harness::{Service, Setup};
use serde_json::Value;

/// More than any file here may take of the memory of a worker, itself included.
const MEMORY_MAX_KIB: u64 = 600 << 10;

/// What a file of gzip holds that is packed as well as can be, to be beyond what
/// it may hold; and what is enough for others.
const GZIP_BYTES: usize = 140 << 20;
const BYTES: usize = 80 << 20;

async fn service() -> Service {
    Service::start(Setup {
        worker: &[("MILLSTREAM_MEMORY", "64MiB")],
        ..Setup::default()
    })
    .await
}

/// Runs a flow of these steps, each one line of YAML, and answers its error.
async fn refusal(service: &Service, id: &str, steps: &[String]) -> Value {
    let admin = service.admin();
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    admin.publish(&format!("id: {id}\nsteps:\n{steps}")).await;
    let run = admin.start(id).await;
    assert_eq!(admin.end(id, &run).await, "Failed", "{id}");
    service.run_error(&run).await
}

/// Why a file cannot be read.
async fn unreadable(service: &Service, id: &str, path: &str) -> (String, String) {
    // What follows takes all its rows.
    let steps = [
        format!("{{ id: read, read: {{ path: {path} }} }}"),
        format!("{{ id: write, write: {{ path: out-{id}.csv, from: read }} }}"),
    ];
    let error = refusal(service, id, &steps).await;
    assert_eq!(error["step"], "read", "{error}");
    let member = |name: &str| error[name].as_str().unwrap().to_owned();
    let name = path.rsplit('/').next().unwrap();
    assert!(member("message").contains(name), "{error}");
    let left = service.files().join(format!("out-{id}.csv"));
    assert!(!left.exists(), "{id} left a file");
    (member("code"), member("message"))
}

/// The most memory that the only worker has had, in KiB.
fn most_memory(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.workers[0].id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[tokio::test]
async fn a_line_of_two_gigabytes_is_given_up_soon_and_in_little_memory() {
    let service = service().await;
    let started = Instant::now();
    for (name, start, limit) in [
        ("long.csv", "a,b\n1,", "64 MiB"),
        ("long.ndjson", "{\"a\": \"", "16 MiB"),
    ] {
        let mut file = File::create(service.files().join(name)).unwrap();
        file.write_all(start.as_bytes()).unwrap();
        // The rest takes no room on disk.
        file.set_len(2 << 30).unwrap();
        let (_, message) = unreadable(&service, &name.replace('.', "-"), name).await;
        assert!(message.contains(limit), "{message}");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "it took {took:?}");
    let most = most_memory(&service);
    assert!(most < MEMORY_MAX_KIB, "it took {most} KiB");
}

#[tokio::test]
async fn what_is_packed_too_well_is_not_unpacked() {
    let service = service().await;
    let rows = |mut writer: Box<dyn Write>, bytes: usize| {
        writer.write_all(b"a\n").unwrap();
        let row = [&b"0".repeat(4095)[..], b"\n"].concat();
        let piece = row.repeat(256);
        for _ in 0..bytes / piece.len() {
            writer.write_all(&piece).unwrap();
        }
    };
    let file = |name: &str| File::create(service.files().join(name)).unwrap();
    let level = flate2::Compression::best();
    let gzip = flate2::write::GzEncoder::new(file("bomb.csv.gz"), level);
    rows(Box::new(gzip), GZIP_BYTES);
    let zstd = zstd::Encoder::new(file("bomb.csv.zst"), 1).unwrap();
    rows(Box::new(zstd.auto_finish()), BYTES);
    for name in ["bomb.csv.gz", "bomb.csv.zst"] {
        let (code, message) = unreadable(&service, &name.replace('.', "-"), name).await;
        assert_eq!(code, "bad_file", "{message}");
        assert!(message.contains("500 times its size"), "{message}");
    }

    let mut workbook = zip::ZipWriter::new(file("bomb.xlsx"));
    let options = zip::write::SimpleFileOptions::default();
    workbook
        .start_file("xl/worksheets/sheet1.xml", options)
        .unwrap();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..BYTES / piece.len() {
        workbook.write_all(&piece).unwrap();
    }
    workbook.finish().unwrap();
    let (code, message) = unreadable(&service, "bomb-xlsx", "bomb.xlsx").await;
    assert_eq!(code, "table_too_large", "{message}");
    let most = most_memory(&service);
    assert!(most < MEMORY_MAX_KIB, "it took {most} KiB");
}

#[tokio::test]
async fn a_file_that_is_not_what_it_says_is_named() {
    let service = service().await;
    let put = |name: &str, bytes: &[u8]| fs::write(service.files().join(name), bytes).unwrap();
    put("rows.csv", b"a,b\n1,x\n2,y\n");
    let admin = service.admin();
    admin
        .publish(
            "id: pack\nsteps:\n  - { id: rows, read: { path: rows.csv } }\n  \
             - { id: write, write: { path: rows.parquet, from: rows } }\n",
        )
        .await;
    assert_eq!(admin.run("pack").await, "Succeeded");
    let parquet = fs::read(service.files().join("rows.parquet")).unwrap();
    put("half.parquet", &parquet[..parquet.len() / 2]);
    put("latin.csv", b"a,b\n1,Bj\xf8rn\n");
    put("ragged.csv", b"a,b\n1,x\n2\n");
    put("open.csv", b"a,b\n1,\"x\n");
    put(
        "half.csv.gz",
        &b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KLN"[..],
    );
    put("text.xlsx", b"a,b\n1,x\n");
    for (name, told) in [
        ("half.parquet", "Parquet"),
        ("latin.csv", "line 2"),
        ("ragged.csv", "line 3"),
        ("open.csv", "quote"),
        ("half.csv.gz", "gz"),
        ("text.xlsx", "workbook"),
    ] {
        let (_, message) = unreadable(&service, &name.replace('.', "-"), name).await;
        assert!(message.contains(told), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

/// Limits how long files of the only worker may become.
fn limit_files(service: &Service, bytes: &str) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", service.workers[0].id()))
        .arg(format!("--fsize={bytes}:"))
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn a_full_disk_leaves_what_was_there_before_and_nothing_else() {
    let service = Service::start(Setup {
        // A write beyond the limit fails as it does on a full disk, where the
        // process survives the signal.
        launcher: &["env", "--ignore-signal=XFSZ"],
        ..Setup::default()
    })
    .await;
    let files = service.files();
    let rows: String = (0..120_000).map(|n| format!("{n},{}\n", n % 3)).collect();
    fs::write(files.join("rows.csv"), format!("n,part\n{rows}")).unwrap();
    fs::write(files.join("out.csv"), "old").unwrap();
    fs::create_dir_all(files.join("parts/part=9")).unwrap();
    fs::write(files.join("parts/part=9/part.csv"), "n\n1\n").unwrap();
    let steps = |write: &str| {
        [
            "{ id: rows, read: { path: rows.csv } }".to_owned(),
            format!("{{ id: write, write: {{ from: rows, {write} }} }}"),
        ]
    };
    let writes = [
        ("file", "path: out.csv"),
        ("parts", "path: parts, format: csv, partition_by: [part]"),
    ];
    limit_files(&service, "200000");
    for (id, write) in writes {
        let error = refusal(&service, id, &steps(write)).await;
        assert_eq!(error["step"], "write", "{error}");
        assert_eq!(error["code"], "file_failed", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("File too large"), "{error}");
    }
    assert_eq!(fs::read_to_string(files.join("out.csv")).unwrap(), "old");
    let part = fs::read_to_string(files.join("parts/part=9/part.csv")).unwrap();
    assert_eq!(part, "n\n1\n");
    let entries = fs::read_dir(&files).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["out.csv", "parts", "rows.csv"]);

    limit_files(&service, "unlimited");
    for (id, _) in writes {
        assert_eq!(service.admin().run(id).await, "Succeeded");
    }
    let written = fs::metadata(files.join("out.csv")).unwrap().len();
    assert_eq!(written, fs::metadata(files.join("rows.csv")).unwrap().len());
    assert!(!files.join("parts/part=9").exists());
}
