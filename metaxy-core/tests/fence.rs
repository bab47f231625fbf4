//! Panics inside fences are errors, and the panic hook prints nothing.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

use metaxy_core::{Error, Result, fence};

thread_local! {
    static PRINTED: Cell<usize> = const { Cell::new(0) };
}

/// Counts the messages of the panic hook on this thread, beginning before the first fence.
fn printed(work: impl FnOnce()) -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|_| PRINTED.set(PRINTED.get() + 1))));
    let before = PRINTED.get();
    work();
    PRINTED.get() - before
}

#[test]
fn a_panic_of_a_decoder_means_damaged_data() {
    let quiet = printed(|| {
        let bytes: &[u8] = &[1, 2];
        let error = fence::decode("part-1.parquet", || Ok(bytes[bytes.len() + 5])).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { table, reason, .. } if table == "part-1.parquet" && reason.contains("index out of bounds")),
            "{error}"
        );
        let error = fence::decode("part-1.parquet", || -> Result<()> { Err(Error::Task("as it was".to_owned())) });
        assert!(matches!(error, Err(Error::Task(_))), "an error stays what it is");
    });
    assert_eq!(quiet, 0);
}

#[test]
fn the_earlier_hook_handles_panics_outside_fences() {
    let loud = printed(|| {
        assert!(fence::catch(|| panic!("inside")).is_err());
        assert!(panic::catch_unwind(|| panic!("outside")).is_err());
        assert_eq!(
            fence::catch(|| fence::catch(|| panic!("{}", "deeper")).unwrap_err().message),
            Ok("deeper".to_owned())
        );
        assert!(panic::catch_unwind(|| panic!("outside again")).is_err());
    });
    assert_eq!(loud, 2);
}

#[tokio::test]
async fn a_future_is_fenced_in_every_poll() {
    let late = async {
        tokio::task::yield_now().await;
        let columns: Vec<u8> = Vec::new();
        Ok(columns[3])
    };
    printed(|| {});
    let before = PRINTED.get();
    let error = fence::decode_async("videos", late).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { table, .. } if table == "videos"), "{error}");
    // No fence is active between its polls.
    let panic = panic::catch_unwind(|| panic!("outside"));
    assert!(panic.is_err());
    assert_eq!(PRINTED.get() - before, 1);
}
