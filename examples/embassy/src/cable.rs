//! An Ethernet cable in memory, with a stack of embassy-net at each end.

use embassy_futures::join::join;
use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_net_driver_channel::driver::LinkState;
use embassy_net_driver_channel::{self as channel, Device, RxRunner, State, TxRunner};

const MTU: usize = 1514;

/// A network interface.
pub type Nic = Device<'static, MTU>;
/// Frames in one direction.
type Direction = (TxRunner<'static, MTU>, RxRunner<'static, MTU>);

/// A stack, and what runs it.
pub type Host = (Stack<'static>, Runner<'static, Nic>);

/// Two hosts, 192.168.69.1 and 192.168.69.2, and the cable between them.
pub fn network() -> ([Host; 2], impl Future<Output = ()>) {
    let [(a, a_rx, a_tx), (b, b_rx, b_tx)] = [1, 2].map(host);
    let cable = async {
        join(carry((a_tx, b_rx)), carry((b_tx, a_rx))).await;
    };
    ([a, b], cable)
}

fn host(last: u8) -> (Host, RxRunner<'static, MTU>, TxRunner<'static, MTU>) {
    let state: &'static mut State<MTU, 4, 4> = Box::leak(Box::new(State::new()));
    let mac = channel::driver::HardwareAddress::Ethernet([2, 0, 0, 0, 0, last]);
    let (runner, nic) = channel::new(state, mac);
    let (link, rx, tx) = runner.split();
    link.set_link_state(LinkState::Up);
    let address = Ipv4Cidr::new(Ipv4Address::new(192, 168, 69, last), 24);
    let config = Config::ipv4_static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() });
    let resources: &'static mut StackResources<8> = Box::leak(Box::new(StackResources::new()));
    (embassy_net::new(nic, config, resources, u64::from(last)), rx, tx)
}

async fn carry((mut from, mut to): Direction) {
    loop {
        let frame = core::future::poll_fn(|context| from.poll_tx_buf(context).map(|frame| frame.to_vec())).await;
        from.tx_done();
        core::future::poll_fn(|context| {
            to.poll_rx_buf(context).map(|room| room[..frame.len()].copy_from_slice(&frame))
        })
        .await;
        to.rx_done(frame.len());
    }
}
