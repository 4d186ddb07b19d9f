//! The client in Python (contrib/python), a second implementation of the protocol: its own tests, with the current
//! programs.

use skiff_tests::programs::python_tests;

#[test]
fn it_knows_names_numbers_and_checksums() {
    python_tests("it_knows_names_numbers_and_checksums", "python", "test_units.py");
}

#[test]
fn it_passes_the_vectors_with_a_script_and_with_both_servers() {
    python_tests("it_passes_the_vectors_with_a_script_and_with_both_servers", "python", "test_vectors.py");
}

#[test]
fn its_transfers_survive_cut_links_damage_and_full_disks() {
    python_tests("its_transfers_survive_cut_links_damage_and_full_disks", "python", "test_transfers.py");
}

#[test]
fn hostile_servers_get_it_to_fail_and_nothing_else() {
    python_tests("hostile_servers_get_it_to_fail_and_nothing_else", "python", "test_hostile.py");
}

#[test]
fn it_transfers_with_classic_servers() {
    python_tests("it_transfers_with_classic_servers", "python", "test_classic.py");
}

#[test]
fn its_program_answers_as_host_cli_does() {
    python_tests("its_program_answers_as_host_cli_does", "python", "test_cli.py");
}

#[test]
fn its_package_installs() {
    python_tests("its_package_installs", "python", "test_package.py");
}

#[test]
fn its_readme_says_what_it_does() {
    python_tests("its_readme_says_what_it_does", "python", "test_readme.py");
}

#[test]
fn it_encrypts_as_the_vector_says_and_with_both_servers() {
    python_tests("it_encrypts_as_the_vector_says_and_with_both_servers", "python", "test_secure.py");
}
