//! Connections and secrets as they are kept, while others change them.

use std::time::Duration;

use harness::PrivateRedis;
use millstream_shared::{
    connection::SecretsKeys,
    id::SecretName,
    process::RedisSettings,
    store::{Store, VAULT_MAX, Vault, VaultError},
};

async fn store(redis: &PrivateRedis) -> Store {
    let settings = RedisSettings {
        url: redis.url(),
        timeout: Duration::from_secs(10),
        partitions: None,
    };
    Store::connect(&settings).await.unwrap()
}

fn name(number: usize) -> SecretName {
    format!("s{number}").parse().unwrap()
}

#[tokio::test]
async fn what_changes_while_secrets_are_sealed_anew_stays_as_it_became() {
    const SECRETS: usize = 200;
    let redis = PrivateRedis::start();
    let store = store(&redis).await;
    let (old, new) = (
        SecretsKeys::generate().unwrap(),
        SecretsKeys::generate().unwrap(),
    );
    let (old, both): (SecretsKeys, SecretsKeys) = (
        old.parse().unwrap(),
        format!("{new},{old}").parse().unwrap(),
    );
    let (old, both) = (
        Vault {
            store: &store,
            keys: &old,
        },
        Vault {
            store: &store,
            keys: &both,
        },
    );
    for number in 0..SECRETS {
        assert!(old.put_secret(&name(number), "before").await.unwrap());
    }
    // From the end, so that most of it comes before the other gets there.
    let change = async {
        for number in (0..SECRETS).rev() {
            if number % 2 == 0 {
                assert!(old.delete_secret(&name(number)).await.unwrap());
            } else {
                assert!(!old.put_secret(&name(number), "after").await.unwrap());
            }
        }
    };
    let (resealed, ()) = tokio::join!(both.reseal(), change);
    assert!(resealed.unwrap() <= SECRETS);
    for number in 0..SECRETS {
        let expected = (number % 2 == 1).then(|| "after".to_owned());
        let kept = both.secret(&name(number)).await.unwrap();
        assert_eq!(kept, expected, "secret {number}");
    }
}

#[tokio::test]
async fn there_are_no_more_secrets_than_can_be_kept() {
    let redis = PrivateRedis::start();
    let store = store(&redis).await;
    let keys: SecretsKeys = SecretsKeys::generate().unwrap().parse().unwrap();
    let vault = Vault {
        store: &store,
        keys: &keys,
    };
    for number in 0..VAULT_MAX {
        vault.put_secret(&name(number), "value").await.unwrap();
    }
    let refused = vault.put_secret(&name(VAULT_MAX), "value").await;
    assert!(matches!(refused, Err(VaultError::TooMany)), "{refused:?}");
    // One that is there can still change.
    assert!(!vault.put_secret(&name(0), "other").await.unwrap());
    assert!(vault.delete_secret(&name(1)).await.unwrap());
    assert!(vault.put_secret(&name(VAULT_MAX), "value").await.unwrap());
}
