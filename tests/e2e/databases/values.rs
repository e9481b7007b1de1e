//! What is loaded into a database is what a query answers.

use super::{On, Place};

/// A table with a value of every type, one that is none, and odd ones.
const TABLE: &str = "\
{ id: made, sql: \"select * from (values \
(1, true, cast(1.5 as double), cast(12.50 as decimal(10, 2)), 'a''\\\"\\\\ ø\\t\\n', X'00ff', \
date '2026-11-24', timestamp '2026-11-24T10:00:00.25', arrow_cast('2026-11-24T10:00:00Z', 'Timestamp(Microsecond, Some(\\\"UTC\\\"))')), \
(-9223372036854775807, false, cast(-1e300 as double), cast(-0.01 as decimal(10, 2)), '', X'', \
date '1000-01-01', timestamp '1969-12-31T23:59:59', arrow_cast('1970-01-02T00:00:00Z', 'Timestamp(Microsecond, Some(\\\"UTC\\\"))')), \
(null, null, null, null, null, null, null, null, null)) \
as t (number, fact, ratio, amount, text, bytes, day, moment, instant)\" }";

async fn come_back_as_they_were(on: On) {
    let place = Place::new(on).await;
    let loaded = place
        .run(
            "there",
            &[
                TABLE,
                "{ id: last, load: { connection: db, table: every, from: made, mode: append, create: true } }",
            ],
        )
        .await
        .unwrap();
    assert_eq!(loaded["rows"], 3);
    assert_eq!(loaded["value"]["inserted"], 3);
    let compared = place
        .run(
            "back",
            &[
                TABLE,
                "{ id: back, query: { connection: db, sql: 'select number, fact, ratio, amount, text, bytes, day, moment, instant from every' } }",
                // Equal types, or this has no plan; equal rows, or something is left.
                "{ id: differ, sql: '(select * from made except select * from back) union all (select * from back except select * from made)' }",
                "{ id: types, sql: 'select arrow_typeof(number) a, arrow_typeof(fact) b, arrow_typeof(ratio) c, arrow_typeof(amount) d, arrow_typeof(text) e, arrow_typeof(bytes) f, arrow_typeof(day) g, arrow_typeof(moment) h, arrow_typeof(instant) i from back limit 1' }",
                "{ id: typed, write: { path: types.csv, from: types } }",
                "{ id: last, needs: [typed], write: { path: differ.csv, from: differ } }",
            ],
        )
        .await
        .unwrap();
    assert_eq!(compared["rows"], 0, "{}", place.written("differ.csv"));
    let types = place.written("types.csv");
    let types = types.lines().nth(1).unwrap();
    assert_eq!(
        types,
        "Int64,Boolean,Float64,\"Decimal128(10, 2)\",Utf8,Binary,Date32,Timestamp(µs),\"Timestamp(µs, \"\"UTC\"\")\""
    );
}

#[tokio::test]
async fn values_of_every_type_come_back_from_postgresql_as_they_were() {
    come_back_as_they_were(On::Postgres).await;
}

#[tokio::test]
async fn values_of_every_type_come_back_from_sqlite_as_they_were() {
    come_back_as_they_were(On::Sqlite).await;
}

#[tokio::test]
async fn values_of_every_type_come_back_from_mariadb_as_they_were() {
    come_back_as_they_were(On::Mariadb).await;
}

#[tokio::test]
async fn what_only_mariadb_has_is_carried_or_named() {
    let place = Place::new(On::Mariadb).await;
    place
        .database
        .run(
            "create table odd (small tinyint, large bigint unsigned, single float, amount decimal(6, 3), \
             mood enum('calm'), born year, code char(3), clock time(6), document json); \
             insert into odd values (-1, 18446744073709551615, 0.5, 1.25, 'calm', 2026, 'NO', \
             '10:00:00.5', '[1]')",
        )
        .await;
    place
        .run(
            "odd",
            &[
                "{ id: got, query: { connection: db, sql: 'select *, sum(amount) as total from odd where small = ? and mood = ? group by small', params: [-1, calm] } }",
                "{ id: last, write: { path: odd.ndjson, from: got } }",
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        place.written("odd.ndjson").trim(),
        "{\"small\":-1,\"large\":18446744073709551615,\"single\":0.5,\"amount\":1.250,\
         \"mood\":\"calm\",\"born\":2026,\"code\":\"NO\",\"clock\":\"10:00:00.500\",\
         \"document\":\"[1]\",\"total\":1.250}"
    );
    place
        .database
        .run("create table flags (f tinyint(1)); insert into flags values (1), (7)")
        .await;
    for (sql, code, message) in [
        (
            "select f from flags",
            "value_cannot_be_carried",
            "column `f`, row 2: 7 stands in a column of the type tinyint(1)",
        ),
        ("select point(1, 2) as p", "unsupported_type", "column `p`"),
        ("delete from flags", "read_only", "READ ONLY"),
    ] {
        let step = format!("{{ id: last, query: {{ connection: db, sql: '{sql}' }} }}");
        let error = place.run("refused", &[&step]).await.unwrap_err();
        assert_eq!(error["code"], code, "{sql}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_only_postgresql_has_is_carried() {
    let place = Place::new(On::Postgres).await;
    place
        .database
        .run(
            "create type mood as enum ('calm'); create domain price as numeric(6, 3); \
             create table odd (small int2, whole int4, single float4, price price, mood mood, \
             id uuid, document jsonb, numbers int4[], texts text[], clock time, code char(3), \
             open numeric); \
             insert into odd values (1, 2, 0.5, 1.25, 'calm', \
             '00000000-0000-0000-0000-00000000000a', '{\"a\": [1]}', '{1,null}', '{\"a,b\",null}', \
             '10:00:00.5', 'NO', 1.123456789)",
        )
        .await;
    place
        .run(
            "odd",
            &[
                "{ id: got, query: { connection: db, sql: 'select * from odd where whole = $1 and texts[1] = any($2) and open < $3', params: [2, ['a,b'], '2.5'] } }",
                "{ id: again, load: { connection: db, table: public.again, from: got, mode: append, create: true } }",
                "{ id: last, needs: [again], write: { path: odd.ndjson, from: got } }",
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        place.written("odd.ndjson").trim(),
        "{\"small\":1,\"whole\":2,\"single\":0.5,\"price\":1.250,\"mood\":\"calm\",\
         \"id\":\"00000000-0000-0000-0000-00000000000a\",\"document\":\"{\\\"a\\\": [1]}\",\
         \"numbers\":[1,null],\"texts\":[\"a,b\",null],\"clock\":\"10:00:00.500\",\
         \"code\":\"NO \",\"open\":1.123456789}"
    );
    let again = "select again::text from again";
    assert_eq!(
        place.database.texts(again).await,
        place.database.texts("select odd::text from odd").await
    );
}

#[tokio::test]
async fn what_postgresql_has_and_no_table_is_named() {
    let place = Place::new(On::Postgres).await;
    place.database.run("create table odd (small int2)").await;
    for (sql, code, message) in [
        (
            "select interval ''1 day'' as span",
            "unsupported_type",
            "column `span` is of the type INTERVAL",
        ),
        (
            "select x::float8 as n from (values (''1''), (''NaN'')) as t (x)",
            "value_cannot_be_carried",
            "column `n`, row 2: NaN is not a finite number",
        ),
        (
            "select ''infinity''::timestamptz as t",
            "value_cannot_be_carried",
            "column `t`, row 1: infinity",
        ),
        (
            "select 1.0000000001 as n",
            "value_cannot_be_carried",
            "column `n`, row 1: 1.0000000001 has more digits",
        ),
        (
            "select 1 as a, 2 as a",
            "duplicate_column",
            "two columns have the name `a`",
        ),
        (
            "insert into odd (small) values (1) returning small",
            "read_only",
            "cannot execute INSERT in a read-only transaction",
        ),
    ] {
        let step = format!("{{ id: last, query: {{ connection: db, sql: '{sql}' }} }}");
        let error = place.run("refused", &[&step]).await.unwrap_err();
        assert_eq!(error["code"], code, "{sql}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_at_the_memory_for_tables() {
    let place = Place::with(
        On::Sqlite,
        1,
        &[
            ("MILLSTREAM_SECRETS_KEY", super::SECRETS_KEY),
            ("MILLSTREAM_MEMORY", "1MiB"),
            ("MILLSTREAM_SPILL_SIZE", "1MiB"),
        ],
    )
    .await;
    place.database.run("create table t (n integer)").await;
    let step = "{ id: last, query: { connection: db, sql: 'with recursive n (i) as (select 1 union all select i + 1 from n) select i from n' } }";
    let error = place.run("endless", &[step]).await.unwrap_err();
    assert_eq!(error["code"], "memory_full", "{error}");
}
