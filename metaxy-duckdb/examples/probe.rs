#![allow(missing_docs, unused)]
use duckdb::vtab::arrow::{ArrowBatchRegistration, ArrowVTab};
use duckdb::{
    Config, Connection, arrow::array::*, arrow::compute::*, arrow::datatypes::*, arrow::record_batch::RecordBatch,
};
use std::sync::Arc;
use std::time::Instant;
fn batch(n: usize, from: usize) -> RecordBatch {
    let s = |p: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("{p}{}", (i * 7919 + from) % 1048576))))
    };
    let f: Fields = ["audio", "frames"].iter().map(|n| Arc::new(Field::new(*n, DataType::Utf8, true))).collect();
    let st: ArrayRef = Arc::new(StructArray::new(f, vec![s("a"), s("f")], None));
    let ts: ArrayRef = Arc::new(
        TimestampMicrosecondArray::from_iter_values(std::iter::repeat_n(1700000000000000i64 + from as i64, n))
            .with_timezone("UTC"),
    );
    let c = |v: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(v, n))) };
    let nulls: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None; n]).with_timezone("UTC"));
    RecordBatch::try_from_iter_with_nullable(vec![
        ("sample_uid", Arc::new(Int64Array::from_iter_values((from..from + n).map(|i| i as i64))) as ArrayRef, true),
        ("metaxy_provenance_by_field", st.clone(), true),
        ("metaxy_provenance", s("01234"), true),
        ("metaxy_data_version_by_field", st, true),
        ("metaxy_data_version", s("01234"), true),
        ("metaxy_feature_version", c("abcdef12"), true),
        ("metaxy_project_version", c("ffcdef12"), true),
        ("metaxy_created_at", ts.clone(), true),
        ("metaxy_updated_at", ts.clone(), true),
        ("metaxy_deleted_at", nulls, true),
        ("metaxy_materialization_id", new_null_array(&DataType::Utf8, n), true),
    ])
    .unwrap()
}
const DDL: &str = "CREATE TABLE t(sample_uid BIGINT, metaxy_provenance_by_field STRUCT(audio VARCHAR, frames VARCHAR), metaxy_provenance VARCHAR, metaxy_data_version_by_field STRUCT(audio VARCHAR, frames VARCHAR), metaxy_data_version VARCHAR, metaxy_feature_version VARCHAR, metaxy_project_version VARCHAR, metaxy_created_at TIMESTAMPTZ, metaxy_updated_at TIMESTAMPTZ, metaxy_deleted_at TIMESTAMPTZ, metaxy_materialization_id VARCHAR)";
fn open(p: &str) -> Connection {
    Connection::open_with_flags(
        p,
        Config::default()
            .with("storage_compatibility_version", "v1.4.0")
            .unwrap()
            .with("autoinstall_known_extensions", "false")
            .unwrap()
            .with("autoload_known_extensions", "false")
            .unwrap(),
    )
    .unwrap()
}
fn main() {
    let n: usize = std::env::args().nth(1).and_then(|x| x.parse().ok()).unwrap_or(1_000_000);
    println!("{}", open(":memory:").version().unwrap());
    let d = std::env::temp_dir().join(format!("probe{}", std::process::id()));
    std::fs::create_dir_all(&d).unwrap();
    let b = batch(n, 0);
    for how in ["vtab", "vtab_noorder"] {
        let p = d.join(how);
        let c = open(p.to_str().unwrap());
        c.execute_batch(DDL).unwrap();
        c.register_table_function::<ArrowVTab>("arrow").unwrap();
        let t = Instant::now();
        c.execute_batch("BEGIN").unwrap();
        match how {
            _ => {
                if how == "vtab_noorder" {
                    c.execute_batch("SET preserve_insertion_order=false").unwrap();
                }
                let r = ArrowBatchRegistration::new(b.clone());
                c.execute("INSERT INTO t BY NAME SELECT * FROM arrow(?)", [&r]).unwrap();
            }
        }
        let t1 = t.elapsed();
        c.execute_batch("COMMIT").unwrap();
        let t2 = t.elapsed();
        drop(c);
        println!(
            "{how}: insert {t1:?} commit {t2:?} close {:?} size {}",
            t.elapsed(),
            std::fs::metadata(&p).unwrap().len()
        );
    }
    let c = open(d.join("vtab").to_str().unwrap());
    c.register_table_function::<ArrowVTab>("arrow").unwrap();
    let cols = "sample_uid, metaxy_data_version_by_field, metaxy_deleted_at";
    let forms = [("plain", format!("SELECT {cols} FROM t WHERE metaxy_feature_version='abcdef12'")),
        ("qualify", format!("SELECT {cols} FROM t WHERE metaxy_feature_version='abcdef12' QUALIFY row_number() OVER (PARTITION BY sample_uid ORDER BY coalesce(metaxy_deleted_at, metaxy_updated_at) DESC)=1")),
        ("argmax", format!("SELECT sample_uid, unnest(arg_max({{'a':metaxy_data_version_by_field,'b':metaxy_deleted_at}}, coalesce(metaxy_deleted_at, metaxy_updated_at))) FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY sample_uid")),
        ("argmax_each", "SELECT sample_uid, arg_max_null(metaxy_data_version_by_field, k), arg_max_null(metaxy_deleted_at, k) FROM (SELECT *, coalesce(metaxy_deleted_at, metaxy_updated_at) k FROM t) WHERE metaxy_feature_version='abcdef12' GROUP BY sample_uid".to_string()),
        ("rowid_semi", format!("SELECT {cols} FROM t WHERE rowid IN (SELECT arg_max(rowid, coalesce(metaxy_deleted_at, metaxy_updated_at)) FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY sample_uid)")),
        ("argmax_rowid_only", "SELECT arg_max(rowid, coalesce(metaxy_deleted_at, metaxy_updated_at)) FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY sample_uid".to_string()),
        ("max_rowpair", format!("SELECT {cols} FROM t JOIN (SELECT max({{'k':coalesce(metaxy_deleted_at, metaxy_updated_at), 'r': rowid}}) m FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY sample_uid) x ON t.rowid = x.m.r")),
        ("anti_dups", format!("WITH d AS (SELECT sample_uid FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY ALL HAVING count(*)>1) SELECT {cols} FROM t WHERE metaxy_feature_version='abcdef12' AND NOT EXISTS (SELECT 1 FROM d WHERE d.sample_uid=t.sample_uid)")),
        ("count_distinct", "SELECT count(*), count(DISTINCT sample_uid) FROM t WHERE metaxy_feature_version='abcdef12'".into()),
        ("dups", "SELECT sample_uid FROM t WHERE metaxy_feature_version='abcdef12' GROUP BY ALL HAVING count(*)>1".into()),
        ("winrn_max", format!("SELECT {cols} FROM t WHERE metaxy_feature_version='abcdef12' QUALIFY max(coalesce(metaxy_deleted_at, metaxy_updated_at)) OVER (PARTITION BY sample_uid) = coalesce(metaxy_deleted_at, metaxy_updated_at)")),
    ];
    for round in 0..2 {
        if round == 1 {
            let r = ArrowBatchRegistration::new(batch(n, 0).slice(0, n / 10));
            c.execute("INSERT INTO t BY NAME SELECT * FROM arrow(?)", [&r]).unwrap();
        }
        for (name, sql) in &forms {
            for rep in 0..2 {
                let t = Instant::now();
                let mut st = match c.prepare(sql) {
                    Ok(s) => s,
                    Err(e) => {
                        println!("{name}: {e}");
                        break;
                    }
                };
                let mut rows = 0;
                let mut nb = 0;
                match st.stream_arrow([]) {
                    Ok(s) => {
                        for x in s {
                            rows += x.unwrap().num_rows();
                            nb += 1;
                        }
                    }
                    Err(e) => {
                        println!("{name} {e}");
                        break;
                    }
                };
                if rep == 1 {
                    println!("round {round} {name}: {rows} rows {nb} batches {:?}", t.elapsed());
                }
            }
        }
    }
    std::fs::remove_dir_all(d).unwrap();
}
