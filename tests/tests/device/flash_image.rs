//! An independent reader of the medium, in Python and based on docs/FLASH.md, finds the same files as the store.

use skiff_proto::crc::crc32c;
use skiff_tests::flash::rig::{Rig, SmallCard, SmallNor, TinyNor, WordNor};
use skiff_tests::flash::workload::{Player, Step};
use skiff_tests::flash::world::{World, files, mount, staged};
use skiff_tests::flash::{CardModel, NorModel, Rng, Sim, Tear};
use skiff_tests::programs::{flash_reader, python, run};

/// Images of each kind of medium.
const LIVES: usize = 12;

trait Image {
    fn image(&self) -> &[u8];
}

impl Image for NorModel {
    fn image(&self) -> &[u8] {
        self.content()
    }
}

impl Image for CardModel {
    fn image(&self) -> &[u8] {
        self.durable()
    }
}

/// The lines that the reader should write.
fn expected<R: Rig>(medium: &Sim<R::Model>, world: &World) -> Vec<String> {
    let mut memory = R::Memory::default();
    let mut store = mount::<R>(&mut memory, medium).expect("it can be mounted");
    let mut lines = Vec::new();
    for (name, (bytes, mtime)) in files(&mut store).expect("readable") {
        let mtime = mtime.map_or("-".into(), |mtime| mtime.to_string());
        lines.push(format!("{} {mtime} {:08x} {name}", bytes.len(), crc32c(&bytes)));
    }
    for name in world.stages.keys().chain(world.fading.keys()) {
        let (len, crc) = staged(&mut store, name).expect("readable");
        if len > 0 {
            lines.push(format!("staged {len} {crc:08x} {name}"));
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

fn compare<R: Rig<Model: Image>>(test: &str) {
    let Some(python) = python(test) else { return };
    let here = tempfile::tempdir().expect("a directory");
    let path = here.path().join("image");
    let mut rng = Rng::new(11);
    let mut player = Player::new(World::default());
    let medium = R::medium(2);
    player
        .play(&mut mount::<R>(&mut R::Memory::default(), &medium).expect("blank"), Step::Put { name: 9, len: 9000 })
        .expect("room");
    for life in 0..LIVES {
        let mut memory = R::Memory::default();
        let mut store = mount::<R>(&mut memory, &medium).expect("it can be mounted");
        player.find(&mut store).expect("it is as it was");
        medium.cut_after(rng.below(120) as u64, Tear::ALL[life % 2]);
        while medium.is_on() {
            _ = player.play(&mut store, Player::any_step(&mut rng, 6, 3000));
        }
        drop(store);
        medium.power_on();
        std::fs::write(&path, medium.model().image()).expect("room");
        let said = run(&mut flash_reader(python, &path)).ok();
        let mut lines: Vec<_> = said.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        assert_eq!(lines, expected::<R>(&medium.fork(), &player.world.borrow()), "{}, life {life}", R::NAME);
    }
    let mut memory = R::Memory::default();
    let found = files(&mut mount::<R>(&mut memory, &medium).expect("it can be mounted")).expect("readable");
    let (name, (bytes, _)) = found.iter().max_by_key(|(_, (bytes, _))| bytes.len()).expect("a file");
    let content = run(flash_reader(python, &path).args(["--get", name]));
    assert!(content.code == Some(0) && &content.bytes == bytes, "{name}: {}", content.err);
    println!("{}: {LIVES} images, {} files at the end", R::NAME, found.len());
}

#[test]
fn the_reader_in_python_sees_what_the_store_sees_on_a_small_chip() {
    compare::<SmallNor>("the_reader_in_python_sees_what_the_store_sees_on_a_small_chip");
}

#[test]
fn the_reader_in_python_sees_what_the_store_sees_on_a_tiny_chip() {
    compare::<TinyNor>("the_reader_in_python_sees_what_the_store_sees_on_a_tiny_chip");
}

#[test]
fn the_reader_in_python_sees_what_the_store_sees_on_a_chip_of_words() {
    compare::<WordNor>("the_reader_in_python_sees_what_the_store_sees_on_a_chip_of_words");
}

#[test]
fn the_reader_in_python_sees_what_the_store_sees_on_a_card() {
    compare::<SmallCard>("the_reader_in_python_sees_what_the_store_sees_on_a_card");
}

#[test]
fn the_reader_in_python_notices_damage() {
    let Some(python) = python("the_reader_in_python_notices_damage") else { return };
    let here = tempfile::tempdir().expect("a directory");
    let path = here.path().join("image");
    let medium = SmallNor::medium(1);
    let mut memory = <SmallNor as Rig>::Memory::default();
    let mut store = mount::<SmallNor>(&mut memory, &medium).expect("blank");
    skiff_tests::flash::world::put(&mut store, "f", &Rng::new(1).bytes(3000), None).expect("room");
    drop(store);
    let mut image = medium.model().content().to_vec();
    let at = image.windows(8).position(|bytes| bytes == &Rng::new(1).bytes(3000)[1500..1508]).expect("it is there");
    image[at] ^= 4;
    std::fs::write(&path, &image).expect("room");
    let ran = run(&mut flash_reader(python, &path));
    assert_eq!((ran.code, ran.err.trim_end()), (Some(1), "flash.py: damaged: piece 1 of b'f'"));
}
