//! Threads for work that waits for the disk. They belong to the server, not to its runtime, so that failing to start a
//! thread only makes one command fail.
//!
//! | lane | work | maximum number of threads |
//! |---|---|---|
//! | [`Lane::Commit`] | commits, changes to names | 512 |
//! | [`Lane::Read`] | `sum`, `resume` and the count of a classic `ls`, in slices | one per processor, 2 to 8 |
//! | [`Lane::Elsewhere`] | everything that touches a file system mounted beneath the root | 32 |
//!
//! No lane waits for another. Within a lane, clients (by address) take turns. Sliced work goes to the back of the
//! queue after each slice, so short work waits for slices and not for whole files. Sliced work is cancelled when its
//! [`Work`] is dropped; a commit never is. Each lane keeps one thread permanently, in case no other can be started
//! later.

use core::cell::Cell;
use core::future::poll_fn;
use core::mem;
use core::net::IpAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::thread;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tracing::warn;

/// Lengths of the first slice, which is enough for most work, and of the later ones.
const FIRST: Duration = Duration::from_millis(4);
const SLICE: Duration = Duration::from_millis(20);

/// An idle thread ends after this time, unless it is the last one of its lane.
const KEEP: Duration = Duration::from_secs(10);

/// How long a connection waits for a thread of [`Lane::Elsewhere`]. After that, the other file systems count as hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kinds of work that do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Commit,
    Read,
    Elsewhere,
}

thread_local! {
    /// This thread belongs to [`Lane::Elsewhere`].
    static ELSEWHERE: Cell<bool> = const { Cell::new(false) };
    /// The future that this thread polls has requested to be polled on a thread of [`Lane::Elsewhere`].
    static LEAVING: Cell<bool> = const { Cell::new(false) };
}

/// True on a thread that may wait for file systems mounted beneath the root.
pub(super) fn is_elsewhere() -> bool {
    ELSEWHERE.get()
}

/// The threads of a server.
#[derive(Debug)]
pub struct Pool {
    lanes: [Arc<Threads>; 3],
    /// [`PATIENCE`], except in tests.
    patience: Duration,
}

/// State shared by the thread that does the work and the connection that is waiting for it.
#[derive(Debug, Default)]
struct Ticket {
    /// It is not awaited any more.
    dropped: AtomicBool,
    /// It has the lowest priority: its client may be gone.
    doubtful: AtomicBool,
}

/// One turn of a piece of work.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    ticket: &'a Ticket,
    ends: Instant,
}

impl Turn<'_> {
    /// True if the turn is over, or the work is not awaited any more.
    pub(super) fn is_over(&self) -> bool {
        self.ticket.dropped.load(Ordering::Relaxed) || Instant::now() >= self.ends
    }
}

/// Work in progress. Resolves to its result, or to `None` if it could not be done.
#[derive(Debug)]
pub(super) struct Work<T> {
    result: oneshot::Receiver<T>,
    ticket: Arc<Ticket>,
}

impl<T> Work<T> {
    /// Gives the work the lowest priority in its lane.
    pub(super) fn doubt(&self) {
        self.ticket.doubt();
    }
}

impl<T> Future for Work<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.result).poll(context).map(Result::ok)
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.ticket.dropped.store(true, Ordering::Relaxed);
    }
}

impl Ticket {
    /// Gives the work the lowest priority in its lane.
    fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }
}

struct Job {
    client: IpAddr,
    ticket: Arc<Ticket>,
    /// It ends when no one waits for it any more.
    ends: bool,
    begun: bool,
    /// One turn; true if there is more to do.
    run: Box<dyn FnMut(&Turn<'_>) -> bool + Send>,
}

/// Jobs whose clients take turns.
#[derive(Default)]
struct Queue(VecDeque<(IpAddr, VecDeque<Job>)>);

impl Queue {
    fn push(&mut self, job: Job) {
        match self.0.iter_mut().find(|(client, _)| *client == job.client) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.0.push_back((job.client, VecDeque::from([job]))),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let (client, mut jobs) = self.0.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.0.push_back((client, jobs));
        }
        job
    }
}

#[derive(Default)]
struct State {
    /// New, begun before, and doubtful jobs.
    queues: [Queue; 3],
    waiting: usize,
    taken: usize,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl State {
    fn push(&mut self, job: Job) {
        let place = if job.ticket.doubtful.load(Ordering::Relaxed) { 2 } else { usize::from(job.begun) };
        self.queues[place].push(job);
        self.waiting += 1;
    }

    /// The next job. New ones go first, since most are short; but those begun before get one turn in four.
    fn pop(&mut self) -> Option<Job> {
        self.taken = self.taken.wrapping_add(1);
        // Doubtful work is that of a client that may be dead. The client may also wait for the answer: so it gets a
        // rare turn.
        let order = match self.taken {
            taken if taken.is_multiple_of(16) => [2, 1, 0],
            taken if taken.is_multiple_of(4) => [1, 0, 2],
            _ => [0, 1, 2],
        };
        let job = order.into_iter().find_map(|place| self.queues[place].pop())?;
        self.waiting -= 1;
        Some(job)
    }
}

/// The threads of one lane.
struct Threads {
    lane: Lane,
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl core::fmt::Debug for Threads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Threads").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one more thread, unless there are enough. False if there is none at all.
    fn grow(self: &Arc<Self>, state: &mut State) -> bool {
        if state.waiting > state.idle && state.threads < self.most || state.threads == 0 {
            let own = Arc::clone(self);
            match thread::Builder::new().name("skiff-disk".to_owned()).spawn(move || own.work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    warn!(%error, "can't start a thread");
                    return false;
                }
                // One of those that run takes it.
                Err(_) => {}
            }
        }
        true
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.push(job);
        if self.grow(&mut state) {
            self.changed.notify_one();
        } else {
            // Dropped outside the lock, and so answered.
            let refused = state.pop();
            drop(state);
            drop(refused);
        }
    }

    fn work(self: Arc<Self>) {
        /// Removes the thread from the count, even if a job panics.
        struct Count<'a>(&'a Threads);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.lock().threads -= 1;
            }
        }
        ELSEWHERE.set(self.lane == Lane::Elsewhere);
        let _count = Count(&self);
        while let Some(mut job) = self.next() {
            if job.ends && job.ticket.dropped.load(Ordering::Relaxed) {
                continue;
            }
            let slice = if mem::replace(&mut job.begun, true) { SLICE } else { FIRST };
            if (job.run)(&Turn { ticket: &job.ticket, ends: Instant::now() + slice }) {
                self.lock().push(job);
            }
        }
    }

    /// Waits for a job; `None` if the thread is not needed any more.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.pop() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            let (next, waited) = self.changed.wait_timeout(state, KEEP).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if waited.timed_out() && state.threads > 1 && state.waiting == 0 {
                return None;
            }
        }
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        let readers = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        let lanes = [(Lane::Commit, 512), (Lane::Read, readers), (Lane::Elsewhere, 32)].map(|(lane, most)| {
            let threads = Arc::new(Threads { lane, most, state: Mutex::default(), changed: Condvar::new() });
            // If this fails, the first job tries again.
            threads.grow(&mut threads.lock());
            threads
        });
        Self { lanes, patience: PATIENCE }
    }

    /// Does `work`, even if nobody is waiting for it any more. On a thread of [`Lane::Elsewhere`] it runs immediately:
    /// that thread may block, and work that already holds one must not wait for a second.
    pub(super) fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        client: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Work<T> {
        if is_elsewhere() {
            let (sender, result) = oneshot::channel();
            _ = sender.send(work());
            return Work { result, ticket: Arc::default() };
        }
        let mut work = Some(work);
        // Take the closure out, so that its captures are dropped before the result is sent.
        self.submit(lane, client, false, move |_| work.take().map_or(Poll::Pending, |work| Poll::Ready(work())))
    }

    /// Does `work` in turns until it is ready, or nobody is waiting for it any more.
    pub(super) fn read<T: Send + 'static>(
        &self,
        client: IpAddr,
        work: impl FnMut(&Turn<'_>) -> Poll<T> + Send + 'static,
    ) -> Work<T> {
        self.submit(Lane::Read, client, true, work)
    }

    fn submit<T: Send + 'static>(
        &self,
        lane: Lane,
        client: IpAddr,
        ends: bool,
        work: impl FnMut(&Turn<'_>) -> Poll<T> + Send + 'static,
    ) -> Work<T> {
        let (sender, result) = oneshot::channel();
        let ticket = Arc::<Ticket>::default();
        let mut both = Some((work, sender));
        let run = Box::new(move |turn: &Turn<'_>| {
            let Some((work, _)) = &mut both else { return false };
            let Poll::Ready(result) = work(turn) else { return true };
            // Drop the captures first: the receiver of the result may end the server.
            if let Some((work, sender)) = both.take() {
                drop(work);
                _ = sender.send(result);
            }
            false
        });
        // Work that is submitted from a thread of this lane stays in this lane.
        let lane = if is_elsewhere() { Lane::Elsewhere } else { lane };
        self.lanes[lane as usize].submit(Job { client, ticket: Arc::clone(&ticket), ends, begun: false, run });
        Work { result, ticket }
    }

    /// Runs `work`: polls it here and, once it awaits [`leave`] (from the start if it begins `away`), only on threads
    /// of [`Lane::Elsewhere`]. It occupies a thread for one poll at a time, so work that waits for its peer holds none.
    /// `None` if no thread is available to continue.
    pub(super) async fn roam<T: Send + 'static>(
        &self,
        client: IpAddr,
        mut work: Roaming<T>,
        mut away: bool,
    ) -> Option<T> {
        loop {
            if !mem::take(&mut away) {
                let here = poll_fn(|context| match work.as_mut().poll(context) {
                    Poll::Ready(done) => Poll::Ready(Some(done)),
                    Poll::Pending if LEAVING.take() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                });
                if let Some(done) = here.await {
                    return Some(done);
                }
            }
            match Box::pin(self.away(client, work)).await {
                Ok(done) => return done,
                Err(back) => work = back,
            }
        }
    }

    /// Polls `work` on threads of [`Lane::Elsewhere`]. Returns it if it could not begin in time.
    async fn away<T: Send + 'static>(&self, client: IpAddr, work: Roaming<T>) -> Result<Option<T>, Roaming<T>> {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        // Here while no thread has it.
        let place = Arc::new(Mutex::new(Some(work)));
        let take = |place: &Mutex<Option<_>>| place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut begun = false;
        loop {
            let (own, waker, runtime) = (Arc::clone(&place), waker.clone(), Handle::current());
            let mut polled = self.run(Lane::Elsewhere, client, move || {
                let mut work = take(&own)?;
                let _runtime = runtime.enter();
                let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_pending() {
                    *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
                }
                Some(polled)
            });
            let done = match mem::replace(&mut begun, true) {
                true => polled.await,
                false => match tokio::time::timeout(self.patience, &mut polled).await {
                    Ok(Some(done)) => Some(done),
                    Ok(None) | Err(_) => match take(&place) {
                        Some(work) => return Err(work),
                        None => polled.await,
                    },
                },
            };
            match done.flatten() {
                Some(Poll::Ready(done)) => return Ok(Some(done)),
                Some(Poll::Pending) => woken.0.notified().await,
                None => return Ok(None),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for threads in &self.lanes {
            threads.lock().closed = true;
            threads.changed.notify_all();
        }
    }
}

/// Work that [`Pool::roam`] runs.
pub(super) type Roaming<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Moves the task to [`Lane::Elsewhere`], where it may wait for file systems beneath the root. False if no thread is
/// free in time: those file systems count as hung. Only the future that [`Pool::roam`] runs may await it, not one that
/// it polls among others.
pub(super) async fn leave() -> bool {
    let mut left = false;
    poll_fn(|_| {
        if mem::replace(&mut left, true) {
            return Poll::Ready(is_elsewhere());
        }
        LEAVING.set(true);
        Poll::Pending
    })
    .await
}

/// A waker that records that a future on a thread of [`Lane::Elsewhere`] wants to be polled again.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::sync::atomic::AtomicUsize;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

    fn job(client: IpAddr, ticket: &Arc<Ticket>, begun: bool) -> Job {
        Job { client, ticket: Arc::clone(ticket), ends: true, begun, run: Box::new(|_| false) }
    }

    #[test]
    fn clients_take_turns_short_work_goes_first_and_doubtful_work_last() {
        let mut state = State::default();
        let (ticket, doubtful) = (Arc::default(), Arc::<Ticket>::default());
        doubtful.doubt();
        (0..4).for_each(|_| state.push(job(CLIENT, &ticket, false)));
        state.push(job(CLIENT, &doubtful, true));
        state.push(job(OTHER, &ticket, true));
        state.push(job(OTHER, &ticket, false));
        let order: Vec<_> = core::iter::from_fn(|| state.pop()).map(|job| (job.client, job.ticket)).collect();
        let clients: Vec<_> = order.iter().map(|(client, _)| *client).collect();
        // The fourth is one that had begun before.
        assert_eq!(clients, [CLIENT, OTHER, CLIENT, OTHER, CLIENT, CLIENT, CLIENT]);
        assert!(Arc::ptr_eq(&order[6].1, &doubtful) && state.waiting == 0);
    }

    #[tokio::test]
    async fn work_in_turns_ends_when_nobody_waits_for_it_and_commits_do_not() {
        let pool = Pool::new();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let endless = pool.read(CLIENT, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        assert_eq!(pool.read(CLIENT, |_| Poll::Ready(7)).await, Some(7));
        while turns.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(endless);
        // Its memory is freed with it.
        while Arc::strong_count(&turns) > 1 {
            tokio::task::yield_now().await;
        }
        let (sender, done) = oneshot::channel();
        drop(pool.run(Lane::Commit, CLIENT, move || sender.send(())));
        assert!(done.await.is_ok());
    }

    #[tokio::test]
    async fn what_leaves_is_polled_elsewhere_from_then_on_also_after_it_has_waited() {
        let pool = Pool::new();
        let (sender, told) = oneshot::channel();
        let work = Box::pin(async move {
            assert!(!is_elsewhere());
            assert!(leave().await && is_elsewhere());
            tokio::time::sleep(Duration::from_millis(1)).await;
            told.await.map(|()| is_elsewhere())
        });
        let (done, _) = tokio::join!(pool.roam(CLIENT, work, false), async { sender.send(()) });
        assert_eq!(done, Some(Ok(true)));
        assert_eq!(pool.roam(CLIENT, Box::pin(async { is_elsewhere() }), true).await, Some(true));
    }

    #[tokio::test]
    async fn what_finds_no_place_elsewhere_in_time_comes_back() {
        let mut pool = Pool::new();
        pool.patience = Duration::from_millis(50);
        let (held, hold) = std::sync::mpsc::channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        let stuck = || {
            let hold = Arc::clone(&hold);
            pool.run(Lane::Elsewhere, CLIENT, move || _ = hold.lock().unwrap().recv())
        };
        let stuck: Vec<_> = (0..64).map(|_| stuck()).collect();
        assert_eq!(pool.roam(CLIENT, Box::pin(leave()), false).await, Some(false));
        assert_eq!(pool.read(CLIENT, |_| Poll::Ready(7)).await, Some(7));
        drop(held);
        for stuck in stuck {
            assert_eq!(stuck.await, Some(()));
        }
    }
}
