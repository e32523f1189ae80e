//! The sizes of the caches, from the processor or the system.

use super::{InstructionSet, Machine};

/// A cache of data as the processor or the system describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cache {
    level: usize,
    bytes: usize,
    /// The cores that share it; on x86-64 the most that it has numbers for.
    cores: usize,
}

/// The sizes of a small machine, for what cannot be read.
const SMALL: Machine = Machine {
    instruction_set: InstructionSet::Portable,
    cores: 1,
    l1: 32 << 10,
    l2: 512 << 10,
    l3: 8 << 20,
    // an unknown number of caches counts as one
    l3_cores: usize::MAX,
    huge_page: 0,
};

/// A machine with its caches, and nothing else that is its own.
pub(super) fn read() -> Machine {
    // Miri has no CPUID
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    let caches = cpuid::caches();
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let caches = system::caches();
    of(&caches)
}

fn of(caches: &[Cache]) -> Machine {
    let at = |level: usize| caches.iter().find(|cache| cache.level == level);
    let mut machine = SMALL;
    if let Some(cache) = at(1) {
        machine.l1 = cache.bytes;
    }
    if let Some(cache) = at(2) {
        machine.l2 = cache.bytes / cache.cores;
        // a second cache may be the last one
        (machine.l3, machine.l3_cores) = (cache.bytes, cache.cores);
    }
    if let Some(cache) = at(3) {
        (machine.l3, machine.l3_cores) = (cache.bytes, cache.cores);
    }
    machine
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod cpuid {
    use std::arch::x86_64::__cpuid_count;

    use super::Cache;

    /// Where AMD describes its caches (first, since a virtual machine may have something in Intel's
    /// place, too), and Intel: leaves of the same form (Intel SDM volume 2, CPUID; AMD APM volume
    /// 3, appendix E.4.15).
    const LEAVES: [(u32, u32); 2] = [(0x8000_0000, 0x8000_001d), (0x0000_0000, 0x0000_0004)];

    pub(super) fn caches() -> Vec<Cache> {
        let known = |(first, leaf): &(u32, u32)| __cpuid_count(*first, 0).eax >= *leaf;
        let mut found = LEAVES.into_iter().filter(known).map(|(_, leaf)| caches_of(leaf));
        found.find(|caches| !caches.is_empty()).unwrap_or_default()
    }

    fn caches_of(leaf: u32) -> Vec<Cache> {
        const NONE: u32 = 0;
        const INSTRUCTIONS: u32 = 2;
        let mut caches = vec![];
        // a processor has four; a list that does not end is no list
        for index in 0..16 {
            let of = __cpuid_count(leaf, index);
            let kind = of.eax & 0x1f;
            if kind == NONE {
                break;
            }
            if kind == INSTRUCTIONS {
                continue;
            }
            let field =
                |word: u32, low: u32, bits: u32| (word >> low & ((1 << bits) - 1)) as usize + 1;
            let (line, partitions, ways) =
                (field(of.ebx, 0, 12), field(of.ebx, 12, 10), field(of.ebx, 22, 10));
            let sets = of.ecx as usize + 1;
            caches.push(Cache {
                level: (of.eax >> 5 & 7) as usize,
                bytes: line * partitions * ways * sets,
                cores: field(of.eax, 14, 12),
            });
        }
        caches
    }
}

/// The caches by Linux, `/sys/devices/system/cpu/cpu0/cache`.
#[cfg(any(all(test, target_os = "linux"), not(all(target_arch = "x86_64", not(miri)))))]
mod system {
    use std::fs::read_to_string;

    use super::Cache;

    pub(super) fn caches() -> Vec<Cache> {
        let folder = |index| format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        (0..16).map_while(|index| of(&folder(index))).flatten().collect()
    }

    /// None where there is no such cache, and none in it where it holds instructions.
    fn of(folder: &str) -> Option<Option<Cache>> {
        let text = |name: &str| read_to_string(format!("{folder}/{name}")).ok();
        if text("type")?.trim() == "Instruction" {
            return Some(None);
        }
        let cache = Cache {
            level: text("level")?.trim().parse().ok()?,
            bytes: crate::machine::size(text("size")?.trim())?,
            cores: count(text("shared_cpu_list")?.trim())?,
        };
        Some(Some(cache))
    }

    /// The processors of a list such as `0-3,8`.
    fn count(list: &str) -> Option<usize> {
        let mut count = 0;
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            count += last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1;
        }
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    fn the_processor_says_what_the_system_says() {
        let (own, said) = (cpuid::caches(), system::caches());
        // a container may have no /sys, and processors with cores of two kinds describe the one
        // that asks
        let hybrid = std::fs::exists("/sys/devices/cpu_atom").unwrap_or(false);
        if said.is_empty() || hybrid {
            return;
        }
        let sizes = |caches: &[Cache]| {
            caches.iter().map(|cache| (cache.level, cache.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&own), sizes(&said));
    }

    #[test]
    fn a_second_cache_may_be_the_last() {
        let machine = of(&[
            Cache { level: 1, bytes: 64 << 10, cores: 1 },
            Cache { level: 2, bytes: 12 << 20, cores: 4 },
        ]);
        assert_eq!(
            (machine.l1, machine.l2, machine.l3, machine.l3_cores),
            (64 << 10, 3 << 20, 12 << 20, 4)
        );
        assert_eq!(of(&[]), SMALL);
    }
}
