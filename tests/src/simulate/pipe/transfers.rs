//! The data connections of classic transfers.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::rc::Rc;

use skiff_proto::ErrorCode;

use super::Pipe;
use crate::sim::Lost;
use crate::simulate::control::Control;
use crate::simulate::judge::Asked;
use crate::simulate::op::{Op, is_whole};
use crate::simulate::transfer;

/// A transfer over a data connection; a fetch returns the content.
type Moving = dyn Future<Output = Result<Option<Vec<u8>>, Lost>>;

/// A classic data connection.
pub(super) struct Transfer {
    pub(super) asked: Asked,
    future: Pin<Box<Moving>>,
}

impl Pipe {
    pub(super) fn begin_transfer(&mut self, asked: Asked, port: u16) {
        let (world, station, options) = (Rc::clone(&self.control.world), self.station, self.habits.options);
        let future: Pin<Box<Moving>> = match &asked.op {
            Op::Put { file, announced, .. } => {
                let (content, announced) = (file.bytes.clone(), *announced);
                Box::pin(async move {
                    transfer::send(world, station, port, options, content, announced).await.map(|()| None)
                })
            }
            _ => Box::pin(async move { transfer::fetch(world, station, port, options).await.map(Some) }),
        };
        self.transfers.push(Transfer { asked, future });
    }

    /// Polls transfers; true if one has ended.
    pub(super) fn follow_transfers(&mut self, context: &mut Context<'_>) -> bool {
        let control = &self.control;
        let before = self.transfers.len();
        self.transfers.retain_mut(|transfer| match transfer.future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                let len = result.as_ref().map(|bytes| bytes.as_ref().map(Vec::len));
                control.trace(|| format!("transfer of {:?} ends: {len:?}", transfer.asked.op));
                judge_transfer(&mut transfer.asked, result, control);
                false
            }
        });
        self.transfers.len() < before
    }
}

/// Compares a classic transfer with the truth.
fn judge_transfer(asked: &mut Asked, result: Result<Option<Vec<u8>>, Lost>, control: &Control) {
    let mut truth = control.truth.borrow_mut();
    let Asked { op, since, wish, .. } = asked;
    let is_calm = control.plan.is_calm;
    match (&*op, result) {
        (Op::Get(name), Ok(Some(bytes))) => {
            control.count(|counts| counts.transfers += 1);
            let was = truth.was(name, *since, |file| file.is_some_and(|file| file.bytes == bytes));
            assert!(was, "{op:?}: {} bytes that were never there", bytes.len());
        }
        (Op::Get(name), _) => {
            let excused = !is_calm || !truth.is_steady(name, *since);
            assert!(excused, "{op:?}: the transfer fails");
        }
        (Op::Put { file, announced, .. }, Ok(_)) => {
            control.count(|counts| counts.transfers += 1);
            assert!(is_whole(&file.bytes, *announced), "{op:?}: stored, and was not whole");
            truth.wishes.granted(wish.take().expect("it is a change"));
        }
        (Op::Put { file, announced, .. }, Err(Lost)) => {
            let full = truth.was_refused("", ErrorCode::NoSpace, *since);
            let too_long = truth.was_refused("", ErrorCode::BadName, *since);
            assert!(!is_calm || full || too_long || !is_whole(&file.bytes, *announced), "{op:?}: the transfer fails");
            if let Some(wish) = wish.take() {
                truth.wishes.lost(wish);
            }
        }
        _ => unreachable!("only these have transfers"),
    }
}
