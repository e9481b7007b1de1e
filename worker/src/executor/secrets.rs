//! The secrets that a step names: fetched when an attempt of it starts, and
//! never kept longer than that.

use millstream_shared::{
    flow::{Step, secrets},
    id::SecretName,
    store::{Vault, VaultError},
};
use serde_json::{Map, Value};

use super::patiently;
use crate::{
    Shared,
    steps::{StepContext, StepError},
};

/// Puts the secrets that the step names where its templates find them, and
/// hides their values in all that it says from now on.
pub(super) async fn bring(
    step: &Step,
    context: &mut StepContext,
    shared: &Shared,
) -> Result<(), StepError> {
    let named = secrets::named_by(step);
    if named.is_empty() {
        return Ok(());
    }
    let mut values = Map::new();
    for name in named {
        let value = tokio::select! {
            biased;
            () = context.cancelled.cancelled() => return Err(StepError::cancelled()),
            value = fetch(&name, shared) => value?,
        };
        context.mask.add([&*value]);
        values.insert(name.to_string(), Value::String(value));
    }
    context.scope = context.scope.with(secrets::ROOT, &Value::Object(values));
    Ok(())
}

/// The value of a secret. While Redis does not answer it is asked again, as for
/// everything that a run needs.
async fn fetch(name: &SecretName, shared: &Shared) -> Result<String, StepError> {
    let Some(keys) = &shared.config.secrets_key else {
        let message = format!(
            "this worker was started without MILLSTREAM_SECRETS_KEY, so it cannot open the \
             secret `{name}`"
        );
        return Err(StepError::permanent("no_secrets_key", message));
    };
    let vault = Vault {
        store: &shared.store,
        keys,
    };
    let ask = || async {
        match vault.secret(name).await {
            Err(VaultError::Store(error)) => Err(error),
            answer => Ok(answer),
        }
    };
    match patiently(ask).await {
        Ok(Ok(Some(value))) => Ok(value),
        Ok(Ok(None)) => {
            let message = format!("there is no secret `{name}`");
            Err(StepError::permanent("unknown_secret", message))
        }
        Ok(Err(error)) => Err(StepError::permanent("sealed_secret", error.to_string())),
        Err(error) => Err(StepError::permanent("store", error.to_string())),
    }
}
