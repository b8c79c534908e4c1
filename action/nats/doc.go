// Package nats is the action that publishes to a NATS subject, by default into a
// JetStream stream that acknowledges it.
//
// Subject and body are rendered before the first attempt and stored with the
// delivery; the server follows the configuration of the moment. The delivery
// key goes along as Nats-Msg-Id, by which a stream drops repeats.
package nats
