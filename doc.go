// Package observer is the vocabulary of a system that turns committed database
// changes into actions, reliably.
//
// A change is recorded in the same transaction as the data (the change log, an
// outbox). A [Source] reads the log, observers (entity, operation, condition)
// match each [Event], and every match of one event with one action of one
// observer is a [Delivery]: the unit that is attempted, retried, dead-lettered
// and redriven under one key.
//
// Source is to [Handler] what io.Reader is to io.Writer, and a relay is io.Copy
// for events. Everything the system does is one or two relays:
//
//	change log -> Source -> relay -> Handler (executor) -> match -> Action
//	                          |                              |
//	                          +-> checkpoint                 +-> Delivery kept when not done
//
// This package imports the standard library only. It defines the nouns and the
// interfaces that adapters implement; the adapters live in source, store and
// action, the moving parts in relay, executor, middleware and delivery, and the
// package topology puts them together. Each interface that has several
// implementations has a conformance suite: sourcetest, storetest, actiontest.
package observer
