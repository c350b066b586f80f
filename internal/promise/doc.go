// Package promise carries an election.Question to a voter and the
// election.Answer back: single UDP datagrams, authenticated with HMAC-SHA256
// under a key that all directors of a cluster share. It decides nothing.
// docs/adr/0013 says what questions and promises are for.
//
// # What is guaranteed
//
// Asked is called only with a question that a holder of the key sent in this
// cluster, for this voter (node and machine-id) and for this life of it, at most
// once for each question, and for one asker's life and one group in growing
// order of Question.Number.
//
// Answered is called only with what the voter that was asked (node and
// machine-id) said to that very question, at most once for each question, and
// only while the answer could still extend the lease that the question names.
//
// So a datagram that an attacker without the key makes, changes, repeats, plays
// to a restarted voter, turns around or sends elsewhere is dropped and counted.
// What is left to him is to lose and to delay.
//
// # Why losing and delaying are harmless
//
// Safety rests on one order of events: the asker reads its clock (the call that
// returned the AskVoter), the voter's machine runs Asked, the asker's machine
// runs Answered. An answer that is accepted proves that order: it names asker's
// life and number, which no other question has, and is under the key; the voter
// makes it after Asked. The asker counts its lease from the first of the three,
// the voter its promise from the second. A question that is late makes the
// promise begin and end later. An answer that is late extends the lease no
// further than one in time: it counts from the same first moment, and after
// Question.Lease it is dropped here. A loss is a promise that was not given: the
// group is given up.
//
// The same holds where this package itself is what delays. A question that is
// sent again, because the voter's life was not known, keeps its number and the
// time at which it was first asked: for the asker it is one question that took
// longer, and it counts from the earlier time. It is sent again only while an
// answer could still be of use.
//
// # What is not guaranteed
//
//   - Delivery. Ask drops what cannot be sent at once; nothing is sent again
//     because of a loss. The election asks anew, with a new number.
//   - Availability against an attacker on the path. He can lose everything. He
//     can also keep questions back and deliver them after the asker's death, each
//     once and in their order: each keeps that voter from acquiring for another
//     W. There are no more of them than a holder sends within one lease, since
//     one that gets no promise stops asking, and one that is delivered makes void
//     all that were sent before it.
//   - That a flood does not drown questions. It costs one HMAC over at most 512
//     bytes for each datagram, and no memory: nothing is kept of, or said to,
//     whoever has not the key. Who recorded a question can have it answered with
//     the voter's life, wherever to; that answer is shorter than the question.
//   - Secrecy. Everything but the key can be read on the wire.
//   - Who of the directors speaks. Whoever has the key can speak for all of them.
//   - That two machines with one node name and one machine-id are told apart.
//
// # Lives
//
// A Service has two random ids of 128 bits, so that nothing said to or by an
// earlier life means anything to it. One is its life as an asker, for good. The
// other is its life as a voter: a question for another one is not honored but
// answered with the right one (kind life), bound to the number of the question
// and to the wrong life that it named, so that each sending of a question is
// corrected at most once; and no question is sent more than three times. What a
// voter remembers of askers is bounded: when the table is full it begins a new
// life and forgets them, which makes all earlier questions void.
//
// Numbers must grow within a Service: one Service serves one election.Machine.
//
// # On the wire
//
// A fixed binary layout, integers big-endian, each string behind one byte with
// its length. JSON would not do: with the longest names (node 63, machine-id 64,
// group 128, lock 123 bytes) a question takes 472 of 512 bytes as it is. A
// datagram of 512 bytes passes every link without fragments.
//
//	bytes  what
//	1      version, 1
//	1      kind: 1 question, 2 answer, 3 life
//	16     the asker's life
//	16     the voter's life: in a question the one that it is for, all zeros if
//	       not known; else the life that speaks
//	8      the question's number, from 1
//	1+n    the voter's node, n = 1 to 63
//	1+n    the voter's machine-id, n = 1 to 64
//	       question:
//	8        epoch
//	8        lease in nanoseconds, from 1 to 2^63 - 1
//	1+n      group, n = 1 to 128
//	1+n      lock, n = 1 to 123
//	       answer:
//	1        1 promised, 0 not
//	1+n      why not, for people, n = 0 to 255; empty if promised
//	       life:
//	16       the voter's life that the question named, which was wrong
//	32     HMAC-SHA256 of everything before, under HMAC-SHA256(key, "zklvs
//	       promise" 0x00 cluster): another cluster is another key
//
// Strings are UTF-8. A datagram with anything left over, or that does not encode
// to the same bytes again, is dropped. Who asks is not said: the voter answers to
// where the question came from, from the address that it came to.
package promise
