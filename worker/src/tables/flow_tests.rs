//! Rows from step to step while they are made.

use std::{collections::HashMap, sync::Arc};

use millstream_shared::{flow::step::ReadStep, id::StepId};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Engine, Feed, Files, Flow, Passed, Prepared, Reading, TableError, TableSettings, prepare,
    tests::{Place, new_engine, settings, shown},
};
use crate::{stores::Location, tables::ByteSize};

struct Stage {
    engine: Engine,
    place: Place,
    files: Arc<Files>,
}

impl Stage {
    fn new(settings: &TableSettings) -> Self {
        let place = Place::new();
        Self {
            engine: new_engine(settings),
            files: Arc::new(Files::new(&[place.path("")]).unwrap()),
            place,
        }
    }

    /// Numbers, with a text for each.
    fn put_numbers(&self, count: u64) {
        let row = |n| format!("{n},{},{}\n", n % 7, "x".repeat(100));
        let rows: String = (0..count).map(row).collect();
        self.place.put("n.csv", &format!("n,seven,text\n{rows}"));
    }

    fn prepared(&self, path: &str) -> Arc<Prepared> {
        let step: ReadStep = serde_json::from_value(json!({ "path": path })).unwrap();
        let reading = Reading {
            location: &Location::Local(path.to_owned()),
            step: &step,
            rejects_location: None,
            label: "run-step",
        };
        Arc::new(prepare(&self.files, &reading, &self.place.work).unwrap())
    }

    /// Reads `path` as a flow, which `taker` takes.
    async fn flow<T, F: Future<Output = T>>(
        &self,
        path: &str,
        taker: impl FnOnce(HashMap<StepId, Feed>) -> F,
    ) -> (Result<Passed, TableError>, T) {
        let prepared = self.prepared(path);
        let (offer, offered) = oneshot::channel::<Flow>();
        let making = self.engine.stream_files(&prepared, &self.files, |flow| {
            offer.send(flow).unwrap();
        });
        let taking = async {
            let feed = Feed::Flow(offered.await.unwrap());
            taker(HashMap::from([("t".parse().unwrap(), feed)])).await
        };
        tokio::join!(making, taking)
    }
}

#[tokio::test]
async fn a_query_takes_what_is_being_read() {
    let stage = Stage::new(&settings());
    stage.put_numbers(50_000);
    let text = "select seven, count(*) as n, sum(n) as total from t group by seven order by 1";
    let (passed, selected) = stage
        .flow("n.csv", |feeds| {
            let engine = &stage.engine;
            async move { engine.sql(text, &feeds).await.unwrap() }
        })
        .await;
    assert_eq!(passed.unwrap().rows, 50_000);
    assert_eq!(selected.rows_in, 50_000);
    let rows = shown(&selected.table);
    assert_eq!(rows.len(), 8);
    assert_eq!(rows[1], "0 7143 178553571");
}

#[tokio::test]
async fn what_stops_early_changes_nothing_of_what_the_maker_says() {
    let stage = Stage::new(&settings());
    stage.put_numbers(100_000);
    for text in ["select n from t limit 3", "select 1 as one"] {
        let (passed, selected) = stage
            .flow("n.csv", |feeds| {
                let engine = &stage.engine;
                async move { engine.sql(text, &feeds).await.unwrap() }
            })
            .await;
        assert_eq!(passed.unwrap().rows, 100_000, "{text}");
        assert!(selected.table.rows() <= 3);
    }
}

#[tokio::test]
async fn a_join_that_has_to_begin_again_reads_again() {
    let stage = Stage::new(&TableSettings {
        memory: Some(ByteSize::of(24 << 20)),
        ..settings()
    });
    stage.put_numbers(200_000);
    let text = "select count(*) as n from t a join t b on a.n = b.n and a.text = b.text";
    let (passed, selected) = stage
        .flow("n.csv", |feeds| {
            let engine = &stage.engine;
            async move { engine.sql(text, &feeds).await.unwrap() }
        })
        .await;
    assert_eq!(passed.unwrap().rows, 200_000);
    assert_eq!(shown(&selected.table), ["n: Int64", "200000"]);
}

#[tokio::test]
async fn a_bad_row_is_the_error_of_the_reader_and_not_the_end_of_the_rows() {
    let stage = Stage::new(&settings());
    let rows: String = (0..60_000).map(|n| format!("{n}\n")).collect();
    stage.place.put("n.csv", &format!("n\n{rows}1,2\n"));
    let prepared = {
        // Its columns are known before the bad row is met.
        let step = json!({ "path": "n.csv", "columns": { "n": "integer" } });
        let step: ReadStep = serde_json::from_value(step).unwrap();
        let reading = Reading {
            location: &Location::Local("n.csv".to_owned()),
            step: &step,
            rejects_location: None,
            label: "run-step",
        };
        Arc::new(prepare(&stage.files, &reading, &stage.place.work).unwrap())
    };
    let (offer, offered) = oneshot::channel::<Flow>();
    let making = stage.engine.stream_files(&prepared, &stage.files, |flow| {
        offer.send(flow).unwrap();
    });
    let taking = async {
        let feeds = HashMap::from([("t".parse().unwrap(), Feed::Flow(offered.await.unwrap()))]);
        let counting = stage.engine.sql("select count(*) as n from t", &feeds);
        counting.await.err().unwrap()
    };
    let (passed, taken) = tokio::join!(making, taking);
    let message = passed.err().unwrap().to_string();
    assert_eq!(message, "n.csv, line 60002: expected 1 field, found 2");
    assert!(matches!(taken, TableError::Interrupted), "{taken}");
}

#[tokio::test]
async fn only_wanted_columns_are_made_and_all_are_looked_at() {
    let stage = Stage::new(&settings());
    for (folder, text) in [
        ("day=1", "a,b,c\n1,x,2\n3,y,4\n"),
        ("day=2", "b,c,a\nz,6,5\n"),
    ] {
        std::fs::create_dir_all(stage.place.path(folder)).unwrap();
        stage.place.put(&format!("{folder}/t.csv"), text);
        let table = stage.place.read(&format!("{folder}/t.csv")).unwrap();
        for ending in ["parquet", "arrow", "ndjson", "json", "xlsx"] {
            let path = format!("{folder}/t.{ending}");
            stage.place.write(&table, &path).unwrap();
        }
    }
    for ending in ["csv", "parquet", "arrow", "ndjson", "json", "xlsx"] {
        let text = "select day, c, count(*) as n from t group by day, c order by c";
        let (passed, selected) = stage
            .flow(&format!("day=*/t.{ending}"), |feeds| {
                let engine = &stage.engine;
                async move { engine.sql(text, &feeds).await.unwrap() }
            })
            .await;
        assert_eq!(passed.unwrap().rows, 3, "{ending}");
        assert_eq!(
            shown(&selected.table),
            ["day: Int64, c: Int64, n: Int64", "1 2 1", "1 4 1", "2 6 1"],
            "{ending}"
        );
    }
}
