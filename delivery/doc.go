// Package delivery runs the deliveries that are kept in the state store: those
// scheduled for later, by a [Worker], and dead ones that a person redrives, by
// [Redrive]. Both lease a delivery, run it, and store how it ended, so any
// number of processes can share one store and each delivery runs once at a
// time.
//
//	scheduled --claim--> run --done--> removed
//	    ^                 |
//	    +---- deferred ---+---- failed for good --> dead --redrive--> run
package delivery
