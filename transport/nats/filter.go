package nats

import (
	"slices"
	"strconv"
)

// filters are the subjects of the partition that cfg selects. Only the tenants
// are left to the reader: they are not in the subject.
func filters(s Subjects, cfg SourceConfig) []string {
	if len(cfg.Databases) == 0 && len(cfg.Entities) == 0 {
		return []string{s.InPartition(cfg.Partition)}
	}
	var list []string
	for _, d := range tokens(cfg.Databases) {
		for _, e := range tokens(cfg.Entities) {
			list = append(list, s.join(d, strconv.Itoa(cfg.Partition), e, "*"))
		}
	}
	return list
}

// tokens are those that stand for any of the names, each once: the server takes
// no filters that overlap.
func tokens(names []string) []string {
	if len(names) == 0 {
		return []string{"*"}
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = EncodeToken(n)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
