//! What an expression names, read off without evaluating it.

use std::collections::{BTreeSet, HashSet};

use minijinja::{
    context,
    machinery::{
        ast::{Call, CallArg, Expr, Stmt},
        parse, parse_expr,
    },
};

use super::{ENVIRONMENT, ExpressionError, check_size, is_template};

/// A name in an expression that the expression does not define itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// What it starts with, as `steps` in `steps.load.rows`.
    pub root: String,
    /// What is taken from that, as `load` in `steps.load.rows` and in
    /// `steps['load']`; nothing where the root stands alone or the name is
    /// computed.
    pub member: Option<String>,
}

/// What the `{{ … }}` and `{% … %}` of `template` name. An error tells why it
/// can never be rendered: bad syntax, an unknown filter, too long.
pub fn references(template: &str) -> Result<BTreeSet<Reference>, ExpressionError> {
    if !is_template(template) {
        return Ok(BTreeSet::new());
    }
    check_size(template, false)?;
    let fail = |error| ExpressionError::new(template, &error);
    // Compiling finds more than parsing, so it is done for its errors.
    ENVIRONMENT.template_from_str(template).map_err(fail)?;
    let parsed = parse(template, "", ENVIRONMENT.syntax().clone()).map_err(fail)?;
    let mut reader = Reader::default();
    reader.statement(&parsed);
    reader.finish(template)
}

/// What a bare expression such as `steps.load.rows > 0` names.
pub fn condition_references(expression: &str) -> Result<BTreeSet<Reference>, ExpressionError> {
    check_size(expression, true)?;
    let fail = |error| ExpressionError::new(expression, &error);
    ENVIRONMENT.compile_expression(expression).map_err(fail)?;
    let parsed = parse_expr(expression).map_err(fail)?;
    let mut reader = Reader::default();
    reader.expression(&parsed);
    reader.finish(expression)
}

#[derive(Default)]
struct Reader {
    found: BTreeSet<Reference>,
    /// What loops and `set` define, innermost last.
    local: Vec<HashSet<String>>,
    /// The first filter or test that does not exist.
    missing: Option<String>,
}

impl Reader {
    fn finish(self, source: &str) -> Result<BTreeSet<Reference>, ExpressionError> {
        match self.missing {
            Some(missing) => Err(ExpressionError::because(source, &missing)),
            None => Ok(self.found),
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.block(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                self.expression(&each.iter);
                self.local.push(HashSet::from(["loop".to_owned()]));
                self.define(&each.target);
                self.optional(each.filter_expr.as_ref());
                self.statements(&each.body);
                self.local.pop();
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                self.local.push(HashSet::new());
                for (target, value) in &with.assignments {
                    self.expression(value);
                    self.define(target);
                }
                self.statements(&with.body);
                self.local.pop();
            }
            Stmt::Set(set) => {
                self.expression(&set.expr);
                self.define(&set.target);
            }
            Stmt::SetBlock(set) => {
                self.optional(set.filter.as_ref());
                self.block(&set.body);
                self.define(&set.target);
            }
            Stmt::AutoEscape(escape) => {
                self.expression(&escape.enabled);
                self.block(&escape.body);
            }
            Stmt::FilterBlock(filter) => {
                self.expression(&filter.filter);
                self.block(&filter.body);
            }
            Stmt::Do(call) => self.call(&call.call),
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    /// Statements whose `set` are theirs alone.
    fn block(&mut self, statements: &[Stmt<'_>]) {
        self.local.push(HashSet::new());
        self.statements(statements);
        self.local.pop();
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Var(variable) => self.name(variable.id, None),
            Expr::Const(_) => {}
            Expr::GetAttr(get) => match &get.expr {
                Expr::Var(variable) => self.name(variable.id, Some(get.name)),
                inner => self.expression(inner),
            },
            Expr::GetItem(get) => match (&get.expr, constant_text(&get.subscript_expr)) {
                (Expr::Var(variable), Some(name)) => self.name(variable.id, Some(&name)),
                (inner, _) => self.all([inner, &get.subscript_expr]),
            },
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.optional(slice.start.as_ref());
                self.optional(slice.stop.as_ref());
                self.optional(slice.step.as_ref());
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => self.all([&operation.left, &operation.right]),
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                self.all(compare.ops.iter().map(|operation| &operation.expr));
            }
            Expr::IfExpr(choice) => {
                self.all([&choice.test_expr, &choice.true_expr]);
                self.optional(choice.false_expr.as_ref());
            }
            Expr::Filter(filter) => {
                self.require("filter", filter.name);
                self.optional(filter.expr.as_ref());
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.require("test", test.name);
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.all(&list.items),
            Expr::Tuple(tuple) => self.all(&tuple.items),
            Expr::Map(map) => self.all(map.keys.iter().chain(&map.values)),
        }
    }

    fn all<'a, 's: 'a>(&mut self, expressions: impl IntoIterator<Item = &'a Expr<'s>>) {
        for expression in expressions {
            self.expression(expression);
        }
    }

    fn optional(&mut self, expression: Option<&Expr<'_>>) {
        self.all(expression);
    }

    fn call(&mut self, call: &Call<'_>) {
        match &call.expr {
            // What is called is a method of it, not a member.
            Expr::GetAttr(get) => self.expression(&get.expr),
            called => self.expression(called),
        }
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value)
                | CallArg::Kwarg(_, value)
                | CallArg::PosSplat(value)
                | CallArg::KwargSplat(value) => self.expression(value),
            }
        }
    }

    fn name(&mut self, root: &str, member: Option<&str>) {
        let is_local = self.local.iter().any(|names| names.contains(root));
        if !is_local && !ENVIRONMENT.globals().any(|(name, _)| name == root) {
            self.found.insert(Reference {
                root: root.to_owned(),
                member: member.map(str::to_owned),
            });
        }
    }

    fn define(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(variable) => {
                if let Some(names) = self.local.last_mut() {
                    names.insert(variable.id.to_owned());
                }
            }
            Expr::List(list) => list.items.iter().for_each(|item| self.define(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.define(item)),
            _ => {}
        }
    }

    /// Notes a filter or test that does not exist.
    fn require(&mut self, kind: &str, name: &str) {
        // Jinja has tests for it: `'upper' is filter`, `'odd' is test`.
        let known = ENVIRONMENT
            .compile_expression(if kind == "filter" {
                "name is filter"
            } else {
                "name is test"
            })
            .and_then(|question| question.eval(context! { name }))
            .is_ok_and(|answer| answer.is_true());
        if !known && self.missing.is_none() {
            self.missing = Some(format!("there is no {kind} `{name}`"));
        }
    }
}

fn constant_text(expression: &Expr<'_>) -> Option<String> {
    match expression {
        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(template: &str) -> Vec<String> {
        references(template)
            .unwrap()
            .into_iter()
            .map(|found| match found.member {
                Some(member) => format!("{}.{member}", found.root),
                None => found.root,
            })
            .collect()
    }

    #[test]
    fn names_are_found_wherever_they_can_stand() {
        for (template, expected) in [
            ("no template, steps.x", vec![]),
            (
                "{{ steps.load.rows }} {{ steps['ask'].value }}",
                vec!["steps.ask", "steps.load"],
            ),
            (
                "{{ steps.a.value[0:inputs.n] }}",
                vec!["inputs.n", "steps.a"],
            ),
            (
                "{{ steps.a.value[steps.b.rows] }}",
                vec!["steps.a", "steps.b"],
            ),
            (
                "{{ steps[inputs.which].rows }}",
                vec!["inputs.which", "steps"],
            ),
            ("{{ inputs | tojson }}", vec!["inputs"]),
            (
                "{{ steps.a.value.items() | map(args.f, x=args.g) | list }}",
                vec!["args.f", "args.g", "steps.a"],
            ),
            (
                "{{ [steps.a, (steps.b, {steps.c: steps.d})] }}",
                vec!["steps.a", "steps.b", "steps.c", "steps.d"],
            ),
            (
                "{{ not steps.a if steps.b < steps.c < 3 else -steps.d }}",
                vec!["steps.a", "steps.b", "steps.c", "steps.d"],
            ),
            (
                "{{ range(inputs.n) }}{{ dict(a=run.id) }}",
                vec!["inputs.n", "run.id"],
            ),
            (
                "{{ steps.a is divisibleby(inputs.n) }}",
                vec!["inputs.n", "steps.a"],
            ),
            (
                "{% if steps.a %}{% elif steps.b %}{% else %}{{ steps.c }}{% endif %}",
                vec!["steps.a", "steps.b", "steps.c"],
            ),
            (
                "{% filter replace(inputs.a, inputs.b) %}{{ steps.c }}{% endfilter %}",
                vec!["inputs.a", "inputs.b", "steps.c"],
            ),
        ] {
            assert_eq!(names(template), expected, "{template}");
        }
    }

    #[test]
    fn what_a_template_defines_itself_is_no_reference() {
        for (template, expected) in [
            (
                "{% for row in steps.a.value %}{{ row.x }}{{ loop.index }}{% endfor %}",
                vec!["steps.a"],
            ),
            (
                "{% for a, b in inputs.x if a %}{{ b }}{% endfor %}{{ b }}",
                vec!["b", "inputs.x"],
            ),
            ("{% set n = inputs.x %}{{ n }}", vec!["inputs.x"]),
            (
                "{% if inputs.x %}{% set n = 1 %}{% endif %}{{ n }}",
                vec!["inputs.x"],
            ),
            ("{% set n = n %}", vec!["n"]),
            (
                "{% with n = inputs.x %}{{ n }}{% endwith %}{{ n }}",
                vec!["inputs.x", "n"],
            ),
            (
                "{% set n %}{{ inputs.x }}{% endset %}{{ n }}",
                vec!["inputs.x"],
            ),
        ] {
            assert_eq!(names(template), expected, "{template}");
        }
    }

    #[test]
    fn a_condition_is_read_without_braces() {
        let found = condition_references("steps.load.rows > inputs.least").unwrap();
        assert_eq!(found.len(), 2);
        assert!(condition_references("steps.load.rows >").is_err());
        assert!(condition_references("{{ steps.load.rows }}").is_err());
    }

    #[test]
    fn filters_and_tests_that_do_not_exist_are_named() {
        for (template, message) in [
            ("{{ 1 | nope }}", "there is no filter `nope`"),
            (
                "{% filter nope %}{% endfilter %}",
                "there is no filter `nope`",
            ),
            ("{{ 1 is nope }}", "there is no test `nope`"),
        ] {
            let error = references(template).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!(names("{{ 1 | string | fromjson is odd }}"), [""; 0]);
    }
}
