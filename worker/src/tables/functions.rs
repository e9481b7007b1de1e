//! Functions of SQL whose results can be far larger than what they are given:
//! `repeat('x', 400000000)` is a gigabyte for every row, made beside all
//! memory that is counted. Here they are as the engine has them, and refuse
//! what would take too much.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use datafusion::{
    arrow::{
        array::ArrayRef,
        compute::concat,
        datatypes::{DataType, FieldRef},
    },
    common::{
        DFSchema, DataFusionError,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    execution::{context::SessionContext, registry::FunctionRegistry},
    logical_expr::{
        BinaryExpr, ColumnarValue, Documentation, Expr, ExprSchemable, LogicalPlan, Operator,
        ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        expr::ScalarFunction,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    ByteSize,
    growth::{Growth, bytes_of},
};

/// Which part of the memory the functions of one query may fill at
/// once, each of them an equal share.
const MEMORY_PARTS: u64 = 4;

/// What a share is at least, however little memory there is.
const SHARE_BYTES_MIN: u64 = 16 << 20;

/// What is longer is made when the rows are, and not while the query is looked
/// at: only then it is known for how many rows at once.
const CONSTANT_BYTES_MAX: u64 = 8 << 10;

/// The engine's functions that can multiply, and how.
const MULTIPLYING: [(&str, Growth); 11] = [
    ("repeat", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("replace", Growth::Replace),
    ("regexp_replace", Growth::Replace),
    ("concat_ws", Growth::Join),
    ("array_to_string", Growth::JoinList),
    ("array_repeat", Growth::ListRepeat),
    ("array_resize", Growth::ListResize),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
];

/// The engine's functions that put together what they are given: by naming a
/// column twice, again and again, that also becomes much.
const ADDING: [&str; 6] = [
    "concat",
    "array_concat",
    "array_append",
    "array_prepend",
    "make_array",
    "string_to_array",
];

/// How much the functions of one query may make at once.
#[derive(Debug)]
pub(super) struct Bounds {
    memory: ByteSize,
    /// Bytes of one result for one piece of rows.
    most: AtomicU64,
    /// Whether rows are made by now.
    is_running: AtomicBool,
}

impl Bounds {
    /// Bounds the functions of `context`.
    pub(super) fn impose(
        context: &SessionContext,
        memory: ByteSize,
    ) -> Result<Arc<Self>, DataFusionError> {
        let bounds = Arc::new(Self {
            memory,
            most: AtomicU64::new(share(memory, 1)),
            is_running: AtomicBool::new(false),
        });
        let known = context.state();
        let known = known.scalar_functions();
        let adding = ADDING.map(|name| (name, Growth::Sum));
        for (name, growth) in MULTIPLYING.into_iter().chain(adding) {
            let inner = known.get(name).ok_or_else(|| {
                DataFusionError::Internal(format!("the engine has no function {name}"))
            })?;
            context.register_udf(ScalarUDF::from(Bounded {
                inner: Arc::clone(inner),
                growth,
                bounds: Arc::clone(&bounds),
            }));
        }
        let checked = Checked {
            signature: Signature::any(1, Volatility::Immutable),
            bounds: Arc::clone(&bounds),
        };
        let planner = Concatenations(Arc::new(ScalarUDF::from(checked)));
        context
            .state_ref()
            .write()
            .register_expr_planner(Arc::new(planner))?;
        Ok(bounds)
    }

    /// Shares out what there is among the functions that `plan` calls.
    pub(super) fn share_out(&self, plan: &LogicalPlan) -> Result<(), DataFusionError> {
        let mut calls = 0;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    if let Expr::ScalarFunction(call) = part
                        && MULTIPLYING
                            .iter()
                            .any(|(name, _)| *name == call.func.name())
                    {
                        calls += 1;
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        self.most
            .store(share(self.memory, calls), Ordering::Relaxed);
        Ok(())
    }

    /// From here on rows are made.
    pub(super) fn run(&self) {
        self.is_running.store(true, Ordering::Relaxed);
    }

    /// As [`Self::check`], for one value that `rows` rows have.
    fn check_constant(&self, name: &str, bytes: u64, rows: usize) -> Result<(), DataFusionError> {
        if bytes > CONSTANT_BYTES_MAX && !self.is_running.load(Ordering::Relaxed) {
            let message = format!("`{name}` is made with the rows");
            return Err(DataFusionError::Execution(message));
        }
        self.check(name, bytes.saturating_mul(rows as u64))
    }

    fn check(&self, name: &str, bytes: u64) -> Result<(), DataFusionError> {
        let most = self.most.load(Ordering::Relaxed);
        if bytes <= most {
            return Ok(());
        }
        Err(DataFusionError::Execution(format!(
            "`{name}` would make more than {} at once, which is its share of the {} that --memory allows",
            ByteSize::of(most),
            self.memory
        )))
    }
}

/// How much each of so many calls may make at once.
fn share(memory: ByteSize, calls: u64) -> u64 {
    let share = memory.bytes() / MEMORY_PARTS / calls.max(1);
    share.max(SHARE_BYTES_MIN)
}

/// A function that looks at what it would make before it makes it. It is never
/// simplified to the engine's own, which does not look.
#[derive(Clone)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    bounds: Arc<Bounds>,
}

impl Bounded {
    /// Calls the function for as many rows at once as its bound allows, since
    /// what it makes is only guessed from above before.
    fn call(
        &self,
        args: ScalarFunctionArgs,
        made: &mut u64,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        let rows = args.number_rows;
        let guessed = self.growth.bytes(&args.args, rows);
        if self.bounds.check(self.name(), guessed).is_err() {
            if rows <= 1 {
                self.bounds.check(self.name(), guessed)?;
            }
            let middle = rows / 2;
            let mut results = self.call(part(&args, 0, middle), made)?;
            results.extend(self.call(part(&args, middle, rows - middle), made)?);
            return Ok(results);
        }
        let result = self.inner.invoke_with_args(args)?.into_array(rows)?;
        *made += bytes_of(&result);
        self.bounds.check(self.name(), *made)?;
        Ok(vec![result])
    }
}

/// Some of the rows of a call.
fn part(args: &ScalarFunctionArgs, start: usize, rows: usize) -> ScalarFunctionArgs {
    let slice = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(slice).collect(),
        number_rows: rows,
        ..args.clone()
    }
}

impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let is_scalar = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        if args.args.iter().all(is_scalar) {
            let guessed = self.growth.bytes(&args.args, 1);
            self.bounds
                .check_constant(self.name(), guessed, args.number_rows)?;
            return self.inner.invoke_with_args(args);
        }
        let results = self.call(args, &mut 0)?;
        let result = match &results[..] {
            [whole] => Arc::clone(whole),
            parts => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        };
        Ok(ColumnarValue::Array(result))
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String, DataFusionError> {
        self.inner.schema_name(args)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType, DataFusionError> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(
        &self,
        args: ReturnFieldArgs<'_>,
    ) -> Result<FieldRef, DataFusionError> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        self.inner.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// What `||` has made of texts, looked at.
#[derive(Clone)]
struct Checked {
    signature: Signature,
    bounds: Arc<Bounds>,
}

impl ScalarUDFImpl for Checked {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let made = args.args.into_iter().next();
        let made = made.ok_or_else(|| DataFusionError::Internal("`||` made nothing".to_owned()))?;
        match &made {
            ColumnarValue::Array(array) => self.bounds.check("||", bytes_of(array))?,
            ColumnarValue::Scalar(value) => {
                let bytes = value.size() as u64;
                self.bounds.check_constant("||", bytes, args.number_rows)?;
            }
        }
        Ok(made)
    }

    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// A column without another name is called as if it was not looked at.
    fn schema_name(&self, args: &[Expr]) -> Result<String, DataFusionError> {
        let args = args.iter().map(|arg| arg.schema_name().to_string());
        Ok(args.collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }
}

/// Has what `||` makes of texts looked at.
#[derive(Debug)]
struct Concatenations(Arc<ScalarUDF>);

impl Concatenations {
    /// A part of a chain of `||` is not looked at by itself: finding out the
    /// type of a deep chain of calls takes the engine for ever.
    fn unchecked(&self, side: Expr) -> Expr {
        match side {
            Expr::ScalarFunction(mut call) if call.func == self.0 && call.args.len() == 1 => {
                call.args.swap_remove(0)
            }
            side => side,
        }
    }
}

impl ExprPlanner for Concatenations {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        let is_text = |side: &Expr| {
            let kind = side.get_type(schema);
            kind.is_ok_and(|kind| kind.is_string())
        };
        if raw.op != BinaryOperator::StringConcat || !(is_text(&raw.left) || is_text(&raw.right)) {
            return Ok(PlannerResult::Original(raw));
        }
        let (left, right) = (self.unchecked(raw.left), self.unchecked(raw.right));
        let (left, right) = (Box::new(left), Box::new(right));
        let made = Expr::BinaryExpr(BinaryExpr::new(left, Operator::StringConcat, right));
        let checked = ScalarFunction::new_udf(Arc::clone(&self.0), vec![made]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(checked)))
    }
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for Checked {}

impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::tables::{
        Feed, TableError,
        tests::{Place, new_engine, settings, shown},
    };

    /// What a query over ten thousand rows makes.
    async fn run(text: &str) -> Result<Vec<String>, TableError> {
        let place = Place::new();
        let rows: String = (0..10_000).map(|n| format!("{n},a text\n")).collect();
        place.put("in.csv", &format!("n,text\n{rows}"));
        let table = place.read("in.csv").unwrap();
        let tables = HashMap::from([("t".parse().unwrap(), Feed::Table(table))]);
        let selected = new_engine(&settings()).sql(text, &tables).await?;
        Ok(shown(&selected.table))
    }

    #[tokio::test]
    async fn what_multiplies_beyond_its_share_is_refused_and_named() {
        let many = ["text"; 12].join(", ");
        for (name, call) in [
            ("repeat", "repeat('x', 400000000)"),
            ("repeat", "repeat(text, n * 100)"),
            ("lpad", "lpad(text, 2000000000, 'x')"),
            ("rpad", "rpad(text, n * 1000, 'xyz')"),
            (
                "replace",
                "replace(repeat(text, 100), 't', repeat('y', 1000))",
            ),
            (
                "regexp_replace",
                "regexp_replace(repeat(text, 100), '', repeat('y', 1000), 'g')",
            ),
            (
                "concat_ws",
                &format!("concat_ws(repeat('y', 1000), {many})"),
            ),
            (
                "array_to_string",
                &format!("array_to_string(make_array({many}), repeat('y', 1000))"),
            ),
            ("array_repeat", "array_repeat(text, 1000000000)"),
            ("array_repeat", "list_repeat(n, 1000000)"),
            ("array_resize", "array_resize(make_array(n), 1000000, 0)"),
            ("range", "range(0, 9000000000000000000)"),
            ("range", "range(n, 1000000)"),
            (
                "generate_series",
                "generate_series(date '0001-01-01', date '9999-01-01', interval '1 day')",
            ),
            (
                "generate_series",
                "generate_series(timestamp '2026-01-01', timestamp '2026-02-01', interval '1 microsecond')",
            ),
        ] {
            let made = run(&format!("select {call} as x from t")).await;
            let Err(error) = made else {
                panic!("{call} went through");
            };
            let expected = format!("`{name}` would make more than");
            assert!(error.to_string().contains(&expected), "{call}: {error}");
            assert!(error.to_string().contains("--memory"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_column_that_is_doubled_again_and_again_is_refused() {
        for double in [
            "x || x",
            "concat(x, x)",
            "array_concat(make_array(x), make_array(x))",
        ] {
            let is_list = double.starts_with("array");
            let mut text = "with t0 as (select text as x from t)".to_owned();
            for n in 1..20 {
                let double = match (is_list, n) {
                    (true, 2..) => "array_concat(x, x)",
                    _ => double,
                };
                text += &format!(", t{n} as (select {double} as x from t{})", n - 1);
            }
            let error = run(&format!("{text} select * from t19")).await.unwrap_err();
            assert!(
                error.to_string().contains("would make more than"),
                "{double}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn what_people_do_with_these_functions_works_as_before() {
        for (call, expected) in [
            ("repeat(text, 2)", "a texta text"),
            ("lpad(cast(n as varchar), 5, '0')", "00007"),
            ("rpad(text, 8, '.')", "a text.."),
            ("replace(text, 't', 'TT')", "a TTexTT"),
            ("regexp_replace(text, '([a-z])t$', '\\1\\1')", "a texx"),
            ("concat(text, n, null, '!')", "a text7!"),
            ("concat_ws('-', n, text, null)", "7-a text"),
            ("text || ' ' || n", "a text 7"),
            ("text || null", "∅"),
            ("array_repeat(n, 2)", "[7, 7]"),
            ("array_to_string(array_concat([n], [n + 1]), ';')", "7;8"),
            ("[n] || [n + 1]", "[7, 8]"),
            ("array_resize([n], 2, 0)", "[7, 0]"),
            ("range(n, n + 2)", "[7, 8]"),
            ("string_to_array(text, ' ')", "[a, text]"),
            ("generate_series(2, 6, 2)", "[2, 4, 6]"),
        ] {
            let rows = run(&format!("select {call} as x from t where n = 7"))
                .await
                .unwrap();
            assert_eq!(rows[1..], [expected], "{call}");
        }
        // What is one value for few rows may be long.
        let days =
            "unnest(generate_series(date '2000-01-01', date '2049-12-31', interval '1 day'))";
        let rows = run(&format!("select count(*) as x from (select {days})")).await;
        assert_eq!(rows.unwrap()[1..], ["18263"]);
        let rows = run("select length(repeat('x', 1000000)) as x")
            .await
            .unwrap();
        assert_eq!(rows[1..], ["1000000"]);
        let rows = run("select text || 'x', repeat(text, 1) from t limit 1")
            .await
            .unwrap();
        let names = rows[0]
            .split(", ")
            .map(|column| column.split(": ").next().unwrap());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["t.text || Utf8(\"x\")", "repeat(t.text,Int64(1))"]
        );
        let long =
            vec!["text"; std::env::var("LONGN").map_or(100, |n| n.parse().unwrap())].join(" || ");
        let rows = run(&format!("select length({long}) as x from t limit 1"))
            .await
            .unwrap();
        assert_eq!(rows[1..], ["600"]);
    }
}
