// Package lease has several processes share names, such as databases or the
// partitions of a stream: each name is held by one of them at a time, under a
// lease in the state store, and each of them holds about as many as the others.
//
// # What a process knows
//
// A lease runs by the clock of the store. Its holder compares no clocks: it counts
// from the moment before it asked for the lease, by its own monotonic clock, and
// trusts the lease for four fifths of its length. By then it has been renewed twice,
// or is not trusted any more: [Held.Valid] is false, also right after the process
// woke up from a pause of any length. Nobody else has it then, so the holder waits
// ([Held.Await]). When the store answers again, and nobody took the lease, it goes
// on under the same term. Otherwise the lease is lost.
//
// Between a look at Valid and what is done afterwards the process can be paused
// for as long as one likes. So what must not be done by two is also checked where
// it takes effect: checkpoints are saved under the term ([observer.Checkpoint]).
//
// # Who holds what
//
// There is no leader. A process is a member as long as it holds a lease of its own
// in the group. It counts the members, and takes what is free as long as it holds
// less than its share, which is the number of names divided by that of members,
// rounded up. What it has above that it gives back. A name that it cannot run it
// leaves to others for a while, and for so long it is no member.
package lease
