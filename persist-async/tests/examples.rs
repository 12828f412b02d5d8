//! The crate's examples, run: each is a program that fails if what it shows does not hold.

#[path = "../examples/own_pool.rs"]
#[allow(unreachable_pub, dead_code, reason = "a program elsewhere")]
mod own_pool;

#[test]
fn a_pool_of_the_users_own_lives_on_state_events() {
    own_pool::main().expect("it runs");
}
