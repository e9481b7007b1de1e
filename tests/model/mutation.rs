//! Ways to get the protocol wrong. The checker has to find each of them, or
//! else it proves nothing about the protocol as it is.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// `checkpoint` does not compare the epoch.
    CheckpointUnfenced,
    /// `checkpoint` overwrites what was stored before.
    CheckpointOverwrites,
    /// `checkpoint` does not count as progress.
    CheckpointKeepsClaims,
    /// `finish` does not compare the epoch.
    FinishUnfenced,
    /// `finish` does not look whether the run has ended.
    FinishOverEnd,
    /// `finish` leaves the entry where it is.
    FinishKeepsEntry,
    /// `finish` sends the message before it looks at anything.
    FinishTellsFirst,
    /// `beat` is a bare XCLAIM.
    BeatUnfenced,
    /// `begin` does not raise the epoch.
    BeginKeepsEpoch,
    /// `begin` leaves the lease as old as the delivery.
    BeginRenewsNothing,
    /// `begin` takes what was delivered without a look at the record.
    BeginWithoutLook,
    /// `reap` does not raise the epoch.
    ReapKeepsEpoch,
    /// `reap` takes the entry out and makes no other.
    ReapForgetsToQueue,
    /// `reap` sets no run aside.
    ReapForEver,
    /// `cancel` does not look whether the run has ended.
    CancelOverEnd,
    /// `cancel` of a queued run leaves its entry where it is.
    CancelKeepsEntry,
    /// `forget` deletes the consumer of a process that died and holds entries.
    ForgetHolders,
    /// `enqueue` does not look whether the run is known.
    EnqueueAgain,
    /// A worker that starts again has the name of the one that died.
    RestartKeepsName,
    /// A worker lets its leases run out while it executes.
    LeaseUnrenewed,
    /// A worker that is told that a run is lost takes it for an answer.
    LossIgnored,
    /// A worker that claims a run anew lets its older execution of it go on.
    OlderExecutionGoesOn,
    /// The API notes who waits when the start was answered, not before.
    WaitNotedLate,
    /// Who attaches to a run reads its state first and registers afterwards.
    ReadBeforeRegister,
    /// A new subscription is not followed by a look at what is waited for.
    NoRecheck,
    /// Nobody looks every ten seconds.
    NoPoll,
}

/// The mistakes that are made together.
pub(crate) type Mutations = &'static [Mutation];
