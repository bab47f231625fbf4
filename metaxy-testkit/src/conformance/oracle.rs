//! The oracle: random definitions and histories, whose results are computed by a slow and simple model.

use metaxy_core::Result;

use super::kit::PASSED;
use super::{Bench, Outcome};
use crate::oracle::Histories;

pub(super) async fn random_histories(bench: Bench) -> Result<Outcome> {
    let location = || async {
        let location = bench.passing().await?;
        Ok((location.backend().await?, location))
    };
    let histories = Histories::new(bench.location.load().histories);
    let played = histories.play_configured(location, |store| bench.location.configure(store)).await;
    played.unwrap_or_else(|disagreement| panic!("{disagreement}"));
    PASSED
}
