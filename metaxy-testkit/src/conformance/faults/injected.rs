//! Calls that fail or are slow at the n-th call of the backend: before it takes effect, while it runs, or after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metaxy_core::store::ReadRequest;
use metaxy_core::{AccessMode, Error, FeatureGraph, MetadataStore, Result};

use crate::conformance::kit::{
    LEAF, PASSED, ROOT, builder_over, generation, ids, only_generation, pair, process, read, root, samples, sorted,
    texts,
};
use crate::conformance::{Bench, Outcome};
use crate::faults::{Fault, FaultyBackend, Operation};

const ROWS: usize = 20;
/// More calls of the backend than any call of a store makes.
const TOUCHES: usize = 40;

/// Returns the moments of a fault, with their descriptions for messages.
fn breaks() -> [(&'static str, Fault); 4] {
    let fault = || Fault::fail(Operation::Any);
    [
        ("before it was made", fault().before()),
        ("when it first waited", fault().during(0)),
        ("when it waited again, or after its first batch", fault().during(1)),
        ("after it had taken effect", fault().after()),
    ]
}

/// A store on the tested backend into which faults can be injected.
struct Breakable {
    backend: Arc<FaultyBackend>,
    store: MetadataStore,
}

impl Breakable {
    async fn new(bench: &Bench, graph: FeatureGraph) -> Result<Self> {
        let backend = Arc::new(FaultyBackend::new(bench.location.backend().await?));
        let builder = builder_over(&*bench.location, Arc::clone(&backend), graph);
        Ok(Self { backend, store: builder.open(AccessMode::ReadWrite).await? })
    }

    /// Makes a call with a fault at a call of the backend, and returns its result and whether the fault occurred.
    async fn broken<T>(&self, fault: &Fault, touch: usize, call: impl Future<Output = T>) -> (T, bool) {
        let before = self.backend.struck();
        self.backend.inject(fault.clone().at(touch));
        let answer = call.await;
        self.backend.heal();
        (answer, self.backend.struck() > before)
    }
}

/// The calls that change a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Write,
    WriteOfTwo,
    SoftDelete,
    HardDelete,
    Drop,
}

impl Change {
    const ALL: [Self; 5] = [Self::Write, Self::WriteOfTwo, Self::SoftDelete, Self::HardDelete, Self::Drop];

    /// Returns the features that the call changes; a dropped feature is used only once.
    fn features(self, attempt: usize) -> Vec<String> {
        match self {
            Self::WriteOfTwo => vec![ROOT.to_owned(), "other".to_owned()],
            Self::Drop => vec![dropped(attempt)],
            _ => vec![ROOT.to_owned()],
        }
    }

    fn adds(self) -> bool {
        matches!(self, Self::Write | Self::WriteOfTwo)
    }

    async fn make(self, store: &MetadataStore, attempt: usize, prefix: &str) -> Result<()> {
        let features = self.features(attempt);
        let doomed = || store.delete(&features[0]).filter(format!("id >= '{prefix}' AND id < '{prefix}9'"));
        match self {
            Self::Write | Self::WriteOfTwo => {
                let rows = features.iter().map(|feature| (feature, samples(ids(prefix, ROWS), "v1").batch()));
                store.write_multi(rows).await.map(|_| ())
            }
            Self::SoftDelete => doomed().await.map(|_| ()),
            Self::HardDelete => doomed().hard().await.map(|_| ()),
            Self::Drop => store.drop_feature(&features[0]).await,
        }
    }
}

fn dropped(attempt: usize) -> String {
    format!("dropped/{attempt}")
}

fn graph() -> Result<FeatureGraph> {
    let dropped = (1..=TOUCHES).map(dropped);
    let keys = [ROOT.to_owned(), "other".to_owned()].into_iter().chain(dropped);
    FeatureGraph::new(keys.map(|key| root(&key)).collect::<Result<Vec<_>>>()?)
}

/// Returns the number of rows of an attempt in each feature, without deleted ones.
async fn counts(store: &MetadataStore, features: &[String], prefix: &str) -> Result<Vec<usize>> {
    let mut counts = Vec::new();
    for feature in features {
        let ids = loop {
            match ids_in(store, feature).await {
                // The change may still be running.
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(5)).await,
                ids => break ids?,
            }
        };
        counts.push(ids.iter().filter(|id| id.starts_with(prefix)).count());
    }
    Ok(counts)
}

async fn ids_in(store: &MetadataStore, feature: &str) -> Result<Vec<String>> {
    match store.read(feature).columns(["id"]).await {
        Ok(rows) => Ok(texts(&rows.rows().await?.to_batch()?, "id")),
        Err(Error::FeatureNotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(in crate::conformance) async fn failed_changes_are_atomic(bench: Bench) -> Result<Outcome> {
    for (number, (when, fault)) in breaks().into_iter().enumerate() {
        let breakable = Breakable::new(&bench, graph()?).await?;
        for change in Change::ALL {
            break_everywhere(&breakable, change, number, when, &fault).await?;
        }
        breakable.store.drop_feature(ROOT).await?;
        breakable.store.close().await?;
    }
    PASSED
}

/// Makes a change with a fault at the first call of the backend, at the second and so on, until it completes without
/// one.
async fn break_everywhere(
    breakable: &Breakable,
    change: Change,
    number: usize,
    when: &str,
    fault: &Fault,
) -> Result<()> {
    let store = &breakable.store;
    for touch in 1..=TOUCHES {
        let prefix = format!("{change:?}{number}-{touch}-");
        let features = change.features(touch);
        if !change.adds() {
            store.write(&features[0], samples(ids(&prefix, ROWS), "v1").batch()).await?;
        }
        let before = counts(store, &features, &prefix).await?;
        let (answer, struck) = breakable.broken(fault, touch, change.make(store, touch, &prefix)).await;
        let after = counts(store, &features, &prefix).await?;
        let what = format!("{change:?}, whose call {touch} of the backend failed {when}");
        if !struck {
            answer?;
            assert_eq!(after, vec![if change.adds() { ROWS } else { 0 }; features.len()], "{what}");
            return Ok(());
        }
        assert!(answer.is_err(), "{what}: no caller gets the error");
        assert!(
            after.iter().all(|count| [0, ROWS].contains(count)),
            "{what}, has left a part: {after:?} of {ROWS} rows"
        );
        if number == 0 && change != Change::WriteOfTwo {
            assert_eq!(after, before, "{what}, has changed something");
        }
    }
    panic!("{change:?} makes more than {TOUCHES} calls of the backend");
}

/// Returns the results of all reads.
async fn answers(store: &MetadataStore) -> Result<BTreeMap<&'static str, Vec<String>>> {
    let mut answers = BTreeMap::new();
    let mut increment = Vec::new();
    let resolved = store.resolve_update(LEAF).await?;
    for rows in [resolved.new, resolved.stale, resolved.orphaned] {
        increment.push(texts(&sorted(rows)?, "id").join(" "));
    }
    answers.insert("resolve", increment);
    let reads: [(&str, ReadRequest); 3] = [
        ("read", store.read(ROOT)),
        ("filter", store.read(ROOT).filter("n > 3").columns(["id"])),
        ("history", store.read(LEAF).with_sample_history().with_feature_history().include_soft_deleted()),
    ];
    for (name, request) in reads {
        answers.insert(name, texts(&sorted(request.await?.rows().await?)?, "id"));
    }
    answers.insert("presence", vec![store.has_feature(ROOT).await?.to_string()]);
    Ok(answers)
}

pub(in crate::conformance) async fn failed_reads_are_errors(bench: Bench) -> Result<Outcome> {
    let breakable = Breakable::new(&bench, pair()?).await?;
    let store = &breakable.store;
    store.write(ROOT, generation(3)).await?;
    process(store, LEAF).await?;
    store
        .write(ROOT, samples(["s000001", "new"], "v2").column("n", arrow::array::Int64Array::from(vec![4, 5])).batch())
        .await?;
    let expected = answers(store).await?;
    for (when, fault) in breaks() {
        let mut touches = 0;
        for touch in 1..=TOUCHES {
            let (answer, struck) = breakable.broken(&fault, touch, answers(store)).await;
            assert!(
                !struck || answer.is_err(),
                "call {touch} of the backend failed {when}, and a reader returned a result"
            );
            assert_eq!(answers(store).await?, expected, "a read that failed has changed something");
            if !struck {
                touches = touch;
                break;
            }
        }
        assert!(touches > 5, "the reads make only {touches} calls of the backend");
    }
    PASSED
}

pub(in crate::conformance) async fn slow_calls_are_atomic(bench: Bench) -> Result<Outcome> {
    let breakable = Breakable::new(&bench, pair()?).await?;
    breakable.store.write(ROOT, generation(0)).await?;
    let pause = Duration::from_millis(3);
    let mut number = 0;
    for fault in [Fault::delay(Operation::Any, pause).before(), Fault::delay(Operation::Any, pause).after()] {
        breakable.backend.inject(fault.forever());
        let (store, first) = (&breakable.store, number);
        let writes = async {
            for next in first + 1..=first + 5 {
                store.write(ROOT, generation(next)).await?;
            }
            Ok::<_, Error>(())
        };
        let reads = async {
            let mut seen = first;
            while seen < first + 5 {
                let now = only_generation(&read(store, ROOT).await?);
                assert!(now >= seen, "a reader has seen write {seen}, and then {now}");
                seen = now;
            }
            Ok::<_, Error>(())
        };
        futures::try_join!(writes, reads)?;
        number += 5;
        breakable.backend.heal();
    }
    PASSED
}
