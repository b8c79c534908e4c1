package nats

// Partition is the partition, of n, that the events of an entity are in. It is
// the same in every version of this program, on every machine, because the
// messages of a stream keep the partition they were published in:
//
//  1. The input is the entity type and the entity id, each as its length in bytes
//     (8 bytes, most significant first) and then its bytes.
//  2. It is hashed with 64-bit FNV-1a: h = 0xcbf29ce484222325, and for each byte
//     h = (h XOR byte) * 0x100000001b3.
//  3. h is mixed, because FNV leaves the low bits weak:
//     h ^= h >> 33, h *= 0xff51afd7ed558ccd, h ^= h >> 33, h *= 0xc4ceb9fe1a85ec53,
//     h ^= h >> 33.
//  4. The partition is h modulo n.
//
// All arithmetic is that of unsigned 64-bit integers. n must be positive.
func Partition(entityType, entityID string, n int) int {
	h := fnv(fnv(0xcbf29ce484222325, entityType), entityID)
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return int(h % uint64(n)) //nolint:gosec // n is positive, and the rest less than n
}

// fnv adds one part to a hash.
func fnv(h uint64, part string) uint64 {
	const prime = 0x100000001b3
	length := uint64(len(part))
	for shift := 56; shift >= 0; shift -= 8 {
		h = (h ^ (length >> shift & 0xff)) * prime
	}
	for i := range len(part) {
		h = (h ^ uint64(part[i])) * prime
	}
	return h
}
