package executor

import (
	"slices"

	"github.com/fraiseql/observer"
)

// everything is the entity that matches all.
const everything = "*"

// index finds observers by entity type and operation without looking at those
// that cannot match.
type index struct {
	// byEvent holds, for each entity type that some observer names, the
	// observers of that type and of all types, in declared order.
	byEvent map[kind][]*Observer
	// others holds the observers of all types, for entity types nobody names.
	others map[observer.Operation][]*Observer
}

type kind struct {
	entity    string
	operation observer.Operation
}

func newIndex(observers []Observer) *index {
	ix := &index{
		byEvent: map[kind][]*Observer{},
		others:  map[observer.Operation][]*Observer{},
	}
	observers = slices.Clone(observers)
	for _, op := range observer.Operations() {
		ix.others[op] = wanting(observers, everything, op)
		for i := range observers {
			entity := observers[i].Entity
			ix.byEvent[kind{entity, op}] = wanting(observers, entity, op)
		}
	}
	return ix
}

func wanting(observers []Observer, entity string, op observer.Operation) []*Observer {
	var found []*Observer
	for i := range observers {
		o := &observers[i]
		if o.Entity != entity && o.Entity != everything {
			continue
		}
		if len(o.Operations) == 0 || slices.Contains(o.Operations, op) {
			found = append(found, o)
		}
	}
	return found
}

func (ix *index) lookup(entity string, op observer.Operation) []*Observer {
	if found, named := ix.byEvent[kind{entity, op}]; named {
		return found
	}
	return ix.others[op]
}
