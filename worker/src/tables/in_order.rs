//! Work on pieces, on several threads at once, whose results come in order.

use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::TableError;

/// How many pieces may be on their way for each thread.
const AHEAD: usize = 2;

/// Does `work` on each piece that `next` yields, on as many threads as there are
/// cores, and hands the results to `take` in the order of the pieces. Nothing is
/// taken behind an error, be it of `next` or of `take`, and everything before it.
pub(super) fn in_order<P: Send, R: Send>(
    mut next: impl FnMut() -> Result<Option<P>, TableError>,
    work: impl Fn(P) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let Some(first) = next()? else {
        return Ok(());
    };
    // One piece is not worth a thread.
    let second = match next() {
        Ok(Some(second)) => second,
        ended => {
            take(work(first))?;
            return ended.map(drop);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let (mut hands, mut workers) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (to, pieces) = sync_channel::<P>(AHEAD);
            let (results, from) = sync_channel::<R>(AHEAD);
            let work = &work;
            workers.push(scope.spawn(move || {
                for piece in pieces {
                    if results.send(work(piece)).is_err() {
                        break;
                    }
                }
            }));
            hands.push((to, from));
        }
        let done = deal(&hands, [first, second], &mut next, &mut take);
        drop(hands);
        for worker in workers {
            // A panic is that of whoever asked for the work.
            worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        done
    })
}

/// Gives the pieces to the workers in turn, and takes the results in turn.
fn deal<P, R>(
    hands: &[(SyncSender<P>, Receiver<R>)],
    first: [P; 2],
    next: &mut impl FnMut() -> Result<Option<P>, TableError>,
    take: &mut impl FnMut(R) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let (mut given, mut taken) = (0, 0);
    let mut first = first.into_iter();
    let mut ended = None;
    loop {
        while ended.is_none() && given - taken < hands.len() * AHEAD {
            let piece = match first.next() {
                Some(piece) => Ok(Some(piece)),
                None => next(),
            };
            match piece {
                Ok(Some(piece)) => {
                    // A worker that is gone has panicked: its result is missing.
                    let _ = hands[given % hands.len()].0.send(piece);
                    given += 1;
                }
                Ok(None) => ended = Some(Ok(())),
                Err(error) => ended = Some(Err(error)),
            }
        }
        if taken == given {
            return ended.unwrap_or(Ok(()));
        }
        let Ok(result) = hands[taken % hands.len()].1.recv() else {
            return Err(TableError::Cancelled);
        };
        taken += 1;
        take(result)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(count: u32, fails_at: Option<u32>) -> (Vec<u32>, Result<(), TableError>) {
        let (mut at, mut taken) = (0, Vec::new());
        let done = in_order(
            || {
                at += 1;
                match fails_at {
                    Some(fails) if at > fails => Err(TableError::refused("x", "no more")),
                    _ => Ok((at <= count).then_some(at)),
                }
            },
            |piece| piece * 2,
            |result| {
                taken.push(result);
                Ok(())
            },
        );
        (taken, done)
    }

    #[test]
    fn results_come_in_the_order_of_the_pieces() {
        for count in [0, 1, 2, 3, 1000] {
            let (taken, done) = doubled(count, None);
            done.unwrap();
            assert!(taken.into_iter().eq((1..=count).map(|piece| piece * 2)));
        }
    }

    #[test]
    fn everything_before_an_error_is_taken() {
        for fails_at in [0, 1, 2, 100] {
            let (taken, done) = doubled(1000, Some(fails_at));
            assert_eq!(done.unwrap_err().to_string(), "no more");
            assert_eq!(taken.len() as u32, fails_at);
        }
    }

    #[test]
    fn nothing_is_taken_behind_an_error_and_a_panic_is_passed_on() {
        let mut taken = 0;
        let done = in_order(
            || Ok(Some(1)),
            |piece| piece,
            |_| {
                taken += 1;
                match taken {
                    10 => Err(TableError::Cancelled),
                    _ => Ok(()),
                }
            },
        );
        assert!(done.is_err() && taken == 10);
        let panicked = std::panic::catch_unwind(|| {
            let mut left = 10;
            in_order(
                || {
                    left -= 1;
                    Ok((left > 0).then_some(left))
                },
                |piece| assert!(piece > 5, "a surprise"),
                |()| Ok(()),
            )
        });
        assert!(panicked.is_err());
    }
}
