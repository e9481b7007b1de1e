//! A step with every text of it that is a template rendered.

use indexmap::IndexMap;
use millstream_shared::flow::{
    expression::{ExpressionError, Scope, render, render_text},
    step::{HttpAuth, HttpPart, HttpStep},
};
use serde_json::Value;

/// The step with every text of it rendered.
pub(super) fn filled_in(step: &HttpStep, scope: &Scope) -> Result<HttpStep, ExpressionError> {
    let text = |text: &Option<String>| {
        text.as_ref()
            .map(|text| render_text(text, scope))
            .transpose()
    };
    let value =
        |value: &Option<Value>| value.as_ref().map(|value| render(value, scope)).transpose();
    let values = |members: &IndexMap<String, Value>| {
        let rendered = members
            .iter()
            .map(|(name, value)| Ok((name.clone(), render(value, scope)?)));
        rendered.collect::<Result<IndexMap<_, _>, ExpressionError>>()
    };
    let part = |(name, part): (&String, &HttpPart)| {
        let part = HttpPart {
            value: value(&part.value)?,
            file: text(&part.file)?,
            filename: text(&part.filename)?,
            content_type: text(&part.content_type)?,
        };
        Ok((name.clone(), part))
    };
    let header = |(name, value): (&String, &String)| Ok((name.clone(), render_text(value, scope)?));
    let multipart = step.multipart.as_ref();
    let multipart = multipart.map(|parts| parts.iter().map(part).collect::<Result<_, _>>());
    let auth = step.auth.as_ref().map(|auth| filled_in_auth(auth, scope));
    Ok(HttpStep {
        url: render_text(&step.url, scope)?,
        headers: step.headers.iter().map(header).collect::<Result<_, _>>()?,
        query: values(&step.query)?,
        json: value(&step.json)?,
        form: step.form.as_ref().map(values).transpose()?,
        body: text(&step.body)?,
        file: text(&step.file)?,
        multipart: multipart.transpose()?,
        auth: auth.transpose()?,
        save: text(&step.save)?,
        method: step.method,
        connection: step.connection.clone(),
        table: step.table.clone(),
        accept: step.accept.clone(),
        request_timeout: step.request_timeout,
        pages: step.pages.clone(),
        extract: step.extract.clone(),
    })
}

fn filled_in_auth(auth: &HttpAuth, scope: &Scope) -> Result<HttpAuth, ExpressionError> {
    Ok(match auth {
        HttpAuth::Basic { username, password } => HttpAuth::Basic {
            username: render_text(username, scope)?,
            password: render_text(password, scope)?,
        },
        HttpAuth::Bearer { token } => HttpAuth::Bearer {
            token: render_text(token, scope)?,
        },
    })
}
