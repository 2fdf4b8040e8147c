//! How fast the watched pieces of work are done.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dsync_testkit::workload;

fn workloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("workload");
    group.sample_size(10);
    for workload in workload::ALL {
        let mut work = workload.prepare(workload.size);
        group.throughput(Throughput::Elements(u64::from(workload.size)));
        group.bench_function(format!("{}, {}", workload.name, workload.unit), |b| {
            b.iter(&mut work);
        });
    }
    group.finish();
}

criterion_group!(benches, workloads);
criterion_main!(benches);
