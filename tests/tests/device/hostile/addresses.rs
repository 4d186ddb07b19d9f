//! Neighbors, leases and addresses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use skiff_device::config::{ConfigError, Ipv4, Ipv6};
use smoltcp::wire::{EthernetAddress, TcpControl};

use super::frames::{claim, question};
use super::{DEVICE, DEVICE_V6, FAR, Peer, STATION, STATION_MAC, STATION_V6, start};

#[test]
fn made_up_neighbors_neither_slow_a_client_down_nor_keep_one_out() {
    for (us, stranger) in [
        (IpAddr::V4(STATION), (|i| Ipv4Addr::from_bits(DEVICE.to_bits() + 10 + i).into()) as fn(u32) -> IpAddr),
        (IpAddr::V6(STATION_V6), |i| Ipv6Addr::from_bits(DEVICE_V6.to_bits() + 10 + u128::from(i)).into()),
    ] {
        let ipv4 = Ipv4::Static { address: DEVICE, prefix: 8, gateway: None };
        let mut station = start(ipv4, Ipv6::Static { address: DEVICE_V6, prefix: 64, gateway: None }).unwrap();
        station.send(&question(STATION_MAC, us));
        let mut client = station.shake(Peer::new(us, 40_001, 1000));
        station.informed.clear();
        let mut asked = Vec::new();
        let mut newcomers = 0;
        // For 20 s, 2,000 frames a second.
        for round in 0..2000 {
            for i in (0..20).map(|i: u32| 20 * round + i) {
                let mac = EthernetAddress([2, 1, 0, 0, i.to_be_bytes()[2], i.to_be_bytes()[3]]);
                let address = stranger(i);
                if i % 2 == 0 {
                    station.queue(&question(mac, address));
                    asked.push(address);
                } else {
                    station.queue(&claim(mac, address));
                }
            }
            station.settle();
            station.now = station.now.after(Duration::from_millis(10));
            // At once: `ask` lets no time pass.
            if round % 10 == 0 {
                station.ping(&mut client);
            }
            // A host that the device does not know can connect within a second.
            if round % 400 == 200 {
                newcomers += 1;
                let mut newcomer = Peer::new(stranger(1 << 20 | round), 41_000, 1000);
                station.send(&question(STATION_MAC, newcomer.address));
                station.say(&newcomer, TcpControl::Syn, &[]);
                station.wait(Duration::from_secs(1));
                let heard = station.heard();
                let answer = heard.iter().find(|segment| segment.control == TcpControl::Syn).expect("an answer");
                (newcomer.seq, newcomer.ack) = (newcomer.seq + 1, Some(answer.seq + 1));
                station.ping(&mut newcomer);
                station.say(&newcomer, TcpControl::Rst, &[]);
                asked.push(newcomer.address);
            }
        }
        assert_eq!(newcomers, 5);
        // Each of them has received the device's address, once.
        assert!(station.informed == asked, "{} of {}", station.informed.len(), asked.len());
    }
}

#[test]
fn a_router_that_is_nobody_is_left_out_of_a_lease() {
    for router in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let mut station = start(Ipv4::Dhcp, Ipv6::Off).unwrap();
        station.give(STATION, router, 3600);
        assert!(station.has_address(), "{router}");
        // A host behind the router, which the device owes an answer.
        let far = Peer::new(FAR, 40_000, 1);
        station.say(&far, TcpControl::Syn, &[]);
        station.wait(Duration::from_secs(10));
        let mut peer = station.connect(40_001);
        station.ping(&mut peer);
    }
}

#[test]
fn a_dhcp_server_that_speaks_as_nobody_is_not_believed() {
    for seconds in [0, 1, 3600] {
        let mut station = start(Ipv4::Dhcp, Ipv6::Off).unwrap();
        station.give(Ipv4Addr::UNSPECIFIED, STATION, seconds);
        assert!(!station.has_address());
        station.wait(Duration::from_secs(3600));
        station.give(STATION, STATION, 3600);
        assert!(station.has_address());
        let mut peer = station.connect(40_001);
        station.ping(&mut peer);
    }
}

#[test]
fn an_address_that_can_be_nobodys_is_a_mistake_in_the_configuration() {
    let v4 = |address, gateway| Ipv4::Static { address, prefix: 24, gateway };
    for ipv4 in [
        v4(Ipv4Addr::UNSPECIFIED, None),
        v4(Ipv4Addr::BROADCAST, None),
        v4(DEVICE, Some(Ipv4Addr::UNSPECIFIED)),
        v4(DEVICE, Some(Ipv4Addr::new(224, 0, 0, 1))),
    ] {
        assert_eq!(start(ipv4, Ipv6::Off).err(), Some(ConfigError::Address), "{ipv4:?}");
    }
    let v6 = |address: &str, gateway: Option<&str>| Ipv6::Static {
        address: address.parse().unwrap(),
        prefix: 64,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    for ipv6 in [v6("::", None), v6("ff02::1", None), v6("fd00::1", Some("::")), v6("fd00::1", Some("ff02::1"))] {
        assert_eq!(start(Ipv4::Off, ipv6).err(), Some(ConfigError::Address), "{ipv6:?}");
    }
}
