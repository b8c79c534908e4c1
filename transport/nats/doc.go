// Package nats carries events through a NATS JetStream stream: [Publisher] is a
// handler that puts the changes of one database into it.
//
// The stream is a transport and not the root of durability: what is missing in
// it is still in the change log. It keeps what it has (file storage, retention by
// limits) and refuses new messages when it is full, so that the change log holds
// back what workers have not read yet. [Stream.Ensure] makes it, or brings it up
// to its configuration, and refuses to change what would lose messages or order.
//
// The subject of an event is
//
//	<prefix>.<database>.<partition>.<entity type>.<operation>
//
// with the partition from a hash of the entity that never changes ([Partition]):
// the events of one entity are in one partition, in the order of their log.
//
// [Source] reads one partition of it as a log, from a position that whoever reads
// it keeps, and acknowledges nothing.
package nats
