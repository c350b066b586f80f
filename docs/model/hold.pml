/*
 * Holding without ZooKeeper by unanimous promise (docs/adr/0013): the rules of
 * docs/SAFETY.md on the list of voters, questions and promises, checked
 * exhaustively by spin. README.md beside this file says what is abstracted away
 * and why that is sound; `make model` runs it, variants included.
 *
 * What holding.pml checks is simple here: guard and gate are one bit, reads of
 * record and locks one step, and so are requests that are answered. What is new is
 * in pieces: questions, promises, writes of the list and acquisitions of unknown
 * outcome, reads of the list, restarts.
 *
 * N directors with L0, L1, L2 locks; the record is deleted by hand up to C times,
 * the list up to D times, and written up to W times. All that is not counted is
 * unbounded: renewals, reads, questions, promises, waits, restarts. Whoever is cut
 * off from ZooKeeper is one that the checker does not let take a step there.
 *
 * Each rule that a variant breaks stands beside an #ifdef of that name. Three more
 * switches: SLOW_ANSWERS lets an answer arrive later than it was given, EPOCHS adds
 * the refusal of who saw a newer epoch, NO_RESTART leaves the new lives out.
 */
#ifndef N
#define N 3
#endif
#ifndef L0
#define L0 1
#endif
#ifndef L1
#define L1 2
#endif
#ifndef L2
#define L2 1
#endif
#ifndef C
#define C 0
#endif
#ifndef D
#define D 0
#endif
#ifndef W
#define W 2
#endif
#ifdef LIST_READ_BEFORE_UNCHECKED /* two walls at once */
#define LIST_READ_BEFORE
#define LIST_NOT_IN_TRANSACTION
#endif
#define K 2 /* the most locks of one director */
#if N > 3 || C > 1 || D > 1 || W > 3
#error "the fields of a Host and the versions are too narrow for that"
#endif

/* Phases of a director (election.Phase); one that fenced is out, and may write its receipt from there. */
#define OUT     0
#define WAITING 1
#define HOLDING 2

/* States of the record. */
#define MISSING  0
#define RELEASED 1
#define HELD     2
#define UNKNOWN  3

/* Situations: what a director saw, and waits out. */
#define NOTHING      0
#define SEE_RELEASED 1
#define SEE_FROZEN   2 /* any renewal turns this into NOTHING */
#define SEE_GONE     3
#define SEE_UNKNOWN  4

/* Requests. */
#define TAKE 1
#define LIST 2

#define STALE  15 /* a version that the record will not have */
#define NOLIST 7  /* instead of a version of the list: it is missing, or not checked */

/*
 * A moment, from which a lease counts: 0 when that lease is over, else LIVE and,
 * for each director w, SEEN(w) if the moment was before w first saw the situation
 * that w waits out, PROM(w) if it was before w received the question to which it
 * promised last. When the wait or the promise of w is over, so is such a lease:
 * W is longer than any lease that began before. That is all that the model knows
 * of time. Of two moments the later one has fewer marks.
 */
#define LIVE    1
#define SEEN(w) (2 << (w))
#define PROM(w) (2 << (N + (w)))
#define NEWER(a, b)   ((a) && (b) -> (a) & (b) : (a) | (b))
#define OLDER(a, b)   ((a) && (b) -> (a) | (b) : 0)
#define USELESS(a, b) ((b) != 0 && ((a) & (b)) == (b)) /* not after b */

typedef Host {
	unsigned phase : 2;
	unsigned lock : 2;    /* number of its newest lock, 0 before the first */
	unsigned v : 4;       /* version of the record under which it holds */
	unsigned tried : 1;   /* an acquisition with this lock may yet commit */
	unsigned look : 1;    /* it must read before it does anything else */
#ifdef EPOCHS
	unsigned epoch : 3;   /* of its holding */
	unsigned most : 3;    /* the highest that this life saw (maxEpoch) */
#endif
	/* its view: the situation, and what was read of the record */
	unsigned sees : 3;
	unsigned sv : 4;
	unsigned slock : 3;
	unsigned sborn : 1;
	/* its view of the list of voters: whether it may take, and the version */
	unsigned may : 1;
	unsigned lv : 3;
	unsigned lold : 1;    /* it was read before the situation was first seen */
	/* what it knows of the list as a holder (type hold) */
	unsigned voters : 3;  /* who may be in it */
	unsigned written : 1;
	unsigned doubt : 1;
	unsigned open : 1;    /* it may be empty */
	/* a request whose outcome is not known: it may commit at any time, or never */
	unsigned astray : 2;
	unsigned aown : 3;
	unsigned av : 4;
	unsigned adel : 3;
	unsigned alv : 3;
	unsigned aset : 3;    /* LIST: the list; TAKE: the epoch */
	/* the moment D counts from: it answers while this is not 0, whatever becomes of its processes */
	byte d;
	/* for each voter: the question on its way, and the newest that was answered */
	byte question[N];
	byte since[N];
#ifdef SLOW_ANSWERS
	byte answer[N];
#endif
};
Host host[N];

/* ZooKeeper */
unsigned rec : 2;   /* the record's state */
unsigned recv : 4;  /* its version */
unsigned recl : 3;  /* the lock that it names, 0: none */
unsigned born : 1;  /* how many records there were before it */
unsigned locks : 6; /* those that exist */
unsigned list : 3;  /* the directors in the list, 0: everyone */
unsigned listv : 3; /* its version, NOLIST if it is missing */
unsigned gone : 1;  /* how often it was deleted by hand */
unsigned writes : 2;
#ifdef EPOCHS
unsigned rece : 3;  /* the record's epoch */
#endif

#define h          host[me]
#define LOCK(o, n) ((o) * K + (n)) /* 1 .. N*K; 0 is no lock */
#define OWN        (LOCK(me, h.lock))
#define OWNER(l)   (((l) - 1) / K)
#define NUMBER(l)  (((l) - 1) % K + 1)
#define LIMIT(o)   ((o) == 0 -> L0 : ((o) == 1 -> L1 : L2))
#define BIT(l)     (1 << ((l) - 1))
#define EXISTS(l)  ((l) != 0 && (locks & BIT(l)) != 0)
#define GONE(l)    ((l) == 0 || (locks & BIT(l)) == 0)
#define QUEUED(o)  ((locks & (3 << ((o) * K))) != 0)
#define IN(o, set) (((set) >> (o)) & 1)
#define LAST       (rec != MISSING && born == C) /* no record will be created any more */
#define LASTLIST   (listv != NOLIST && gone == D)

/* Scratch, meaningless between steps. */
#ifdef SHORTEST
#define hidden
#endif
hidden byte i, j, k, x, y, ok, refs;

inline done() {
#ifdef SHORTEST
	i = 0; j = 0; k = 0; x = 0; y = 0; ok = 0; refs = 0;
#endif
	skip
}

/* ---------------------------------------------------------------- claims */

#ifndef CLAIM
#define CLAIM 0
#endif
#if CLAIM == 0 || CLAIM == 1
#define CLAIM_ONE(c) assert(c) /* at most one director answers */
#else
#define CLAIM_ONE(c) skip
#endif
#if CLAIM == 0 || CLAIM == 2
#define CLAIM_RECEIPT(c) assert(c) /* a receipt means that nobody answers */
#else
#define CLAIM_RECEIPT(c) skip
#endif

/* With -DREACH=n the checker must get there: 1 to 4 an acquisition by that situation, 5 a promise that moves D. */
#ifdef REACH
#define HAPPENS(n) assert((n) != REACH)
#else
#define HAPPENS(n) skip
#endif

/* ------------------------------------------------------------------ time */

#define PUT(m, mark) m = ((m) -> (m) | (mark) : 0)
#define END(m, mark) m = ((m) & (mark) -> 0 : (m))
#define CUT(m, mark) m = (m) & ~(mark)

#ifdef SLOW_ANSWERS
#define EACH(DO, o, mark) DO(host[o].question[k], mark); DO(host[o].since[k], mark); DO(host[o].answer[k], mark)
#else
#define EACH(DO, o, mark) DO(host[o].question[k], mark); DO(host[o].since[k], mark)
#endif

/* stamp: the moments of o so far are before what the mark stands for. */
inline stamp(o, what) {
	PUT(host[o].d, what);
	for (k : 0 .. N - 1) {
		EACH(PUT, o, what)
	}
}

/* unmark: what the mark stands for counts no more. */
inline unmark(what) {
	for (i : 0 .. N - 1) {
		CUT(host[i].d, what);
		for (k : 0 .. N - 1) {
			EACH(CUT, i, what)
		}
	}
}

/*
 * over: leases that count from a marked moment are over. A holder that is awake
 * fences; one that is asleep has not yet, and a renewal that it sent before may
 * still commit and give it a new lease. A promise may not.
 */
inline over(what) {
	for (i : 0 .. N - 1) {
		END(host[i].d, what);
		for (k : 0 .. N - 1) {
			EACH(END, i, what)
		}
	}
}

/* promiseOver: the promise of w is over. It blocks w until then. */
inline promiseOver(w) {
#if !defined(PROMISE_DOES_NOT_BLOCK) && !defined(PROMISE_TOO_SHORT)
	over(PROM(w));
#endif
	unmark(PROM(w))
}

inline blind(w) {
	host[w].sees = NOTHING; host[w].sv = 0; host[w].slock = 0; host[w].sborn = 0; host[w].lold = host[w].may;
	unmark(SEEN(w))
}

/* sight: w now first saw the situation in its view. */
inline sight(w) {
	host[w].lold = host[w].may;
	for (i : 0 .. N - 1) {
		if
		:: i != w && (host[w].sees == SEE_UNKNOWN || (host[w].sees == SEE_FROZEN || host[w].sees == SEE_GONE) && host[w].slock == LOCK(i, host[i].lock)) -> stamp(i, SEEN(w))
		:: else
		fi
	}
}

/* leave drops the lock from memory, fenced if it was held; it may stay in the queue. */
inline leave(w) {
	host[w].phase = OUT; host[w].d = 0;
	host[w].tried = 0
}

/* ------------------------------------------------------------- ZooKeeper */

inline settled(w) {
	host[w].astray = NOTHING; host[w].aown = 0; host[w].av = 0; host[w].adel = 0; host[w].alv = 0; host[w].aset = 0
}

#ifdef LIST_NOT_IN_TRANSACTION
#define FOLDLIST 0
#else
#define FOLDLIST LASTLIST
#endif

/* tidy forgets what can have no effect any more, so that states that differ in nothing else become one. */
inline tidy() {
	for (j : 0 .. N - 1) {
		if
		:: host[j].astray != NOTHING && GONE(host[j].aown) -> settled(j)
		:: host[j].astray == TAKE && host[j].adel != 0 && GONE(host[j].adel) -> settled(j)
		:: host[j].astray != NOTHING && LAST && recv != host[j].av -> settled(j)
		:: host[j].astray == TAKE && host[j].alv != NOLIST && FOLDLIST && host[j].alv != listv -> settled(j)
		:: host[j].astray == LIST && LASTLIST && host[j].alv != listv -> settled(j)
		:: else
		fi;
		if
		:: host[j].sees == SEE_FROZEN && GONE(host[j].slock) -> blind(j)
		:: host[j].sees != NOTHING && LAST && recv != host[j].sv -> blind(j)
		:: else
		fi;
		host[j].look = host[j].look | host[j].phase == OUT;
		host[j].tried = (LAST -> 0 : host[j].tried);
		host[j].may = (host[j].phase == HOLDING || FOLDLIST && host[j].lv != listv -> 0 : host[j].may);
		/* Whoever cannot queue any more waits for nothing. */
		if
		:: host[j].phase != WAITING && host[j].lock == LIMIT(j) ->
			host[j].may = 0;
			blind(j);
			unmark(PROM(j))
		:: else
		fi;
		host[j].lv = (host[j].may -> host[j].lv : 0);
		host[j].lold = host[j].lold & host[j].may;
		if
		:: host[j].phase != HOLDING ->
			host[j].v = 0; host[j].voters = 0; host[j].written = 0; host[j].doubt = 0; host[j].open = 0;
#ifdef EPOCHS
			host[j].epoch = 0;
#endif
			for (k : 0 .. N - 1) {
#ifdef SLOW_ANSWERS
				host[j].answer[k] = 0;
#endif
				host[j].question[k] = 0; host[j].since[k] = 0
			}
		:: else ->
			/* Who certainly is in no list is not asked; what does not move D is not waited for. */
			for (k : 0 .. N - 1) {
				x = k != j && IN(k, host[j].voters);
				host[j].since[k] = (!x || USELESS(host[j].since[k], host[j].d) -> 0 : host[j].since[k]);
#ifdef SLOW_ANSWERS
				host[j].answer[k] = (!x || USELESS(host[j].answer[k], host[j].d) || USELESS(host[j].answer[k], host[j].since[k]) -> 0 : host[j].answer[k]);
				host[j].question[k] = (USELESS(host[j].question[k], host[j].answer[k]) -> 0 : host[j].question[k]);
#endif
				host[j].question[k] = (!x || USELESS(host[j].question[k], host[j].d) || USELESS(host[j].question[k], host[j].since[k]) -> 0 : host[j].question[k])
			}
		fi
	}
	/* Where no record, or no list, will be created any more, all that counts of a version is whether it is the one known. */
	if
	:: LAST ->
		for (j : 0 .. N - 1) {
			host[j].v = (host[j].phase == HOLDING && host[j].v != recv -> STALE : 0);
			host[j].av = 0; host[j].sv = 0
		}
		recv = 0
	:: else
	fi;
	if
	:: FOLDLIST ->
		for (j : 0 .. N - 1) {
			host[j].lv = 0;
			host[j].alv = (host[j].alv == NOLIST -> NOLIST : 0)
		}
		listv = 0
	:: else
	fi;
	/* An own lock that is not in use, and that nobody has read of, is deleted. */
	refs = (rec == HELD -> BIT(recl) : 0);
	for (j : 0 .. N - 1) {
		refs = (host[j].phase != OUT -> refs | BIT(LOCK(j, host[j].lock)) : refs);
		refs = (host[j].slock -> refs | BIT(host[j].slock) : refs);
		refs = (host[j].aown -> refs | BIT(host[j].aown) : refs);
		refs = (host[j].adel -> refs | BIT(host[j].adel) : refs)
	}
	locks = locks & refs;
	done()
}

/* renewed: the lock's version has changed; nobody can delete it at the old one. */
inline renewed(theLock) {
	for (j : 0 .. N - 1) {
		if
		:: host[j].sees == SEE_FROZEN && host[j].slock == (theLock) -> blind(j)
		:: else
		fi;
		if
		:: host[j].astray == TAKE && host[j].adel == (theLock) -> settled(j)
		:: else
		fi;
		skip
	}
}

/* Whether a director may take, by what it read of the list, and the version of the list that its acquisition checks. */
#ifdef LIST_READ_BEFORE
#define READ_SINCE 1
#else
#define READ_SINCE (!h.lold) /* the list was read after the situation was first seen */
#endif
#ifdef OUTSIDER_TAKES
#define VOTER 1
#else
#define VOTER (h.sees == SEE_RELEASED || h.may && READ_SINCE)
#endif
#if defined(LIST_NOT_IN_TRANSACTION) || defined(OUTSIDER_TAKES)
#define LISTVERSION NOLIST
#else
#define LISTVERSION (h.sees == SEE_RELEASED -> NOLIST : h.lv)
#endif
#ifdef EPOCHS
#define EPOCH (h.most + 1)
#define RECE rece
#else
#define EPOCH 0
#define RECE 0
#endif

/*
 * take: multi[check(own lock), delete(holder's lock, V) in case b, set(record, v, epoch + 1), set(own lock),
 * check(voters, vv) without a receipt].
 */
inline take(theLock, theVersion, theHolder, theList, theEpoch) {
	ok = EXISTS(theLock) && rec != MISSING && recv == (theVersion) && ((theHolder) == 0 || EXISTS(theHolder));
	ok = ok && ((theList) == NOLIST || listv == (theList));
	if
	:: ok ->
		locks = ((theHolder) != 0 -> locks & ~BIT(theHolder) : locks);
		rec = HELD; recv++; recl = (theLock);
#ifdef EPOCHS
		rece = (theEpoch);
#endif
		renewed(theLock)
	:: else
	fi
}

/* receipt: multi[set(record, v, released), delete(the lock named in it)]. */
inline receipt() {
	for (i : 0 .. N - 1) {
		CLAIM_RECEIPT(host[i].d == 0)
	}
	locks = locks & ~BIT(recl);
	rec = RELEASED; recv++
}

#define OURS(theLock, theVersion) (EXISTS(theLock) && rec != MISSING && recv == (theVersion))

/* write: multi[check(record, v), set(own lock), set(voters, vv)], or create(voters) where it was missing. */
inline write(theLock, theSet) {
	list = (theSet);
	listv = (listv == NOLIST -> 0 : listv + 1);
#ifndef ADD_WITHOUT_RENEWAL
	renewed(theLock)
#endif
}

/* ---------------------------------------------------- one director's host */

/* extend: D counts from this moment, if that is later than the one so far. */
inline extend(moment) {
	h.d = NEWER(h.d, moment);
	for (i : 0 .. N - 1) {
		CLAIM_ONE(i == me || host[i].d == 0)
	}
}

/* hold: the record names our lock, and a write of ours was committed now. */
inline hold(theVersion, theEpoch) {
	h.phase = HOLDING; h.v = (theVersion); h.look = 0;
#ifdef EPOCHS
	h.epoch = (theEpoch); h.most = (h.most < (theEpoch) -> (theEpoch) : h.most);
#endif
	blind(me);
	extend(LIVE)
}

inline stray(theKind, theLock, theVersion, theHolder, theList, theSet) {
	h.astray = theKind; h.aown = theLock; h.av = theVersion; h.adel = theHolder; h.alv = theList; h.aset = theSet
}

#define DEL (h.sees == SEE_FROZEN -> h.slock : 0)

/* Whether promises could keep the holding (possible), and why not to promise (cannotPromise). */
#ifdef EMPTY_COUNTS
#define POSSIBLE (h.written && (h.voters & ~(1 << me)) != 0)
#else
#define POSSIBLE (h.written && !h.open && (h.voters & ~(1 << me)) != 0)
#endif
#ifdef EPOCHS
#define NEWEREPOCH(w) (host[w].most > h.epoch)
#else
#define NEWEREPOCH(w) 0
#endif
/* That it refuses while its own acquisition is under way is a second wall, left out here. */
#define REFUSES(w) (host[w].phase > WAITING || NEWEREPOCH(w))

#ifdef PROMISE_AFTER_DEADLINE
#define MAYEXTEND 1
#else
#define MAYEXTEND (h.d != 0)
#endif

/* allPromised: D counts from the oldest of the newest answered questions. */
inline allPromised() {
#ifdef ASK_ONE
	x = 0;
	for (k : 0 .. N - 1) {
		x = (k != me && IN(k, h.voters) -> NEWER(x, h.since[k]) : x)
	}
#else
	x = LIVE;
	for (k : 0 .. N - 1) {
		x = (k != me && IN(k, h.voters) -> OLDER(x, h.since[k]) : x)
	}
#endif
	if
	:: x != 0 && POSSIBLE && MAYEXTEND -> HAPPENS(5); extend(x)
	:: else
	fi
}

/* Whom the list is to hold: its writer, and others that are in it or have a lock in the queue; or nobody. */
#define FITS(o, set) (!IN(o, set) || (o) == me || listv != NOLIST && IN(o, list) || QUEUED(o))
#define WANTED(set)  ((set) == 0 || IN(me, set) && ((set) & ~(1 << me)) != 0 && FITS(0, set) && FITS(1, set) && FITS(N - 1, set))
#define WRITES(set)  (h.phase == HOLDING && h.d != 0 && writes < W && WANTED(set) && (listv == NOLIST || list != (set) || !h.written && (set) != 0))

#define VOTERS(set) \
	:: d_step { /* Written, and answered. */ \
		WRITES(set) && OURS(OWN, h.v) -> \
		writes++; \
		write(OWN, set); \
		h.written = 1; \
		h.voters = (h.doubt -> h.voters | (set) : (set)); \
		h.open = (h.doubt -> h.open | ((set) == 0) : (set) == 0); \
		extend(LIVE); \
		tidy(); \
		printf("director %d writes the list of voters: %d\n", me, set) \
	} \
	:: d_step { /* It may yet be written. */ \
		WRITES(set) -> \
		writes++; \
		stray(LIST, OWN, h.v, 0, listv, set); \
		h.voters = KNOWN(set); \
		h.open = (set) == 0 || h.open; \
		h.doubt = 1; \
		tidy(); \
		printf("director %d: no reply to a write of the list, which may yet run: %d\n", me, set) \
	}
#ifdef DROP_FORGETS
#define KNOWN(set) (set)
#else
#define KNOWN(set) (h.voters | (set))
#endif

#ifdef LEASE_FROM_ANSWER
#define COUNTS(m) LIVE
#else
#define COUNTS(m) m
#endif

#define ASKABLE(w) (h.phase == HOLDING && h.d != 0 && POSSIBLE && (w) != me && IN(w, h.voters))

#ifdef SLOW_ANSWERS
#define ANSWERED(w) \
		h.answer[w] = h.question[w]; h.question[w] = 0; \
		tidy(); \
		printf("director %d promises to %d\n", w, me) \
	} \
	:: d_step { /* The answer arrives. */ \
		h.phase == HOLDING && h.answer[w] != 0 && IN(w, h.voters) -> \
		h.since[w] = COUNTS(h.answer[w]); h.answer[w] = 0; \
		allPromised(); \
		tidy(); \
		printf("director %d has the promise of %d\n", me, w) \
	}
#else
#define ANSWERED(w) \
		h.since[w] = h.question[w]; h.question[w] = 0; \
		allPromised(); \
		tidy(); \
		printf("director %d promises to %d\n", w, me) \
	}
#endif

#define ASK(w) \
	:: d_step { /* A question: the lease counts from now. */ \
		ASKABLE(w) && h.d != LIVE && h.question[w] != LIVE && h.since[w] != LIVE -> \
		h.question[w] = LIVE; \
		tidy(); \
		printf("director %d asks %d\n", me, w) \
	} \
	:: d_step { /* It arrives, and is answered with a promise. */ \
		h.phase == HOLDING && h.question[w] != 0 && !REFUSES(w) -> \
		stamp(me, PROM(w)); \
		ANSWERED(w)

proctype Director(byte me)
{
	do
	/* -------- the queue */
	:: d_step {
		h.phase == OUT && h.lock < LIMIT(me) ->
		h.lock++; h.phase = WAITING; h.look = 1;
		locks = locks | BIT(OWN);
		tidy();
		printf("director %d queues a fresh lock\n", me)
	}
	:: d_step { /* The old lock goes with the transaction that makes the new one. */
		h.phase == WAITING && h.tried && h.lock < LIMIT(me) && EXISTS(OWN) ->
		locks = locks & ~BIT(OWN);
		h.lock++; h.look = 1; h.tried = 0;
		locks = locks | BIT(OWN);
		tidy();
		printf("director %d queues anew in the place of its lock\n", me)
	}
	:: d_step { /* Session lost, not fit; fenced. The lock may stay behind. */
		h.phase != OUT ->
		leave(me);
		tidy();
		printf("director %d leaves the queue, or loses its session, or fences\n", me)
	}
#ifndef NO_RESTART
	:: d_step { /* A new life. It fenced first, and knows nothing. */
		h.lock > 0 && !(h.phase == OUT && h.sees == NOTHING && !h.may) ->
		leave(me);
		h.may = 0;
#ifdef EPOCHS
		h.most = 0;
#endif
		blind(me);
		unmark(PROM(me));
		tidy();
		printf("director %d is killed; a new life begins\n", me)
	}
#endif
	:: d_step { /* A lock vanishes: session expired, deleted by hand, or a stray of one's own deleted. Nobody is told. */
		h.lock > 0 && EXISTS(OWN) ->
		locks = locks & ~BIT(OWN);
		tidy();
		printf("director %d: its newest lock vanishes\n", me)
	}
	:: d_step {
		h.lock > 1 && EXISTS(OWN - 1) ->
		locks = locks & ~BIT(OWN - 1);
		tidy();
		printf("director %d: an older lock of it vanishes\n", me)
	}

	/* -------- reading */
	:: d_step { /* Record and locks. */
		h.phase == WAITING ->
		h.look = 0;
#ifdef EPOCHS
		h.most = (rec != MISSING && h.most < rece -> rece : h.most);
#endif
		if
		:: GONE(OWN) -> leave(me)
		:: EXISTS(OWN) && rec == HELD && recl == OWN ->
			/* (d) The reply to our acquisition was lost: renew first, then answer. */
			promiseOver(me);
			renewed(OWN);
			hold(recv, RECE)
		:: else ->
			if
			:: rec == MISSING -> x = NOTHING
			:: rec == UNKNOWN -> x = SEE_UNKNOWN
			:: rec == RELEASED -> x = (EXISTS(recl) -> NOTHING : SEE_RELEASED)
			:: rec == HELD -> x = (EXISTS(recl) -> SEE_FROZEN : SEE_GONE)
			fi;
			y = (rec == HELD -> recl : 0);
			if
			:: x == NOTHING -> blind(me)
			:: x != NOTHING && x == h.sees && y == h.slock && born == h.sborn -> h.sv = recv
			:: else ->
				blind(me);
				h.sees = x; h.sv = recv; h.slock = y; h.sborn = born;
				sight(me)
			fi
		fi;
		tidy();
		printf("director %d reads record and locks\n", me)
	}
	:: d_step { /* The list of voters. */
		h.phase == WAITING && listv != NOLIST && (list == 0 || IN(me, list)) ->
		h.may = 1; h.lv = listv; h.lold = 0;
		tidy();
		printf("director %d reads the list of voters: it may take\n", me)
	}

	/* -------- acquiring, when the wait is over, and the promise */
	:: d_step { /* It runs, and is answered. */
		h.phase == WAITING && !h.look && h.sees != NOTHING && VOTER ->
		over(SEEN(me));
		promiseOver(me);
		x = DEL; y = LISTVERSION;
		take(OWN, h.sv, x, y, EPOCH);
		if
		:: ok -> HAPPENS(h.sees); hold(recv, RECE)
		:: else -> h.look = 1
		fi;
		tidy();
		printf("director %d sends an acquisition, and has the reply; record names %d\n", me, recl)
	}
	:: d_step { /* It may run later, or never. */
		h.phase == WAITING && !h.look && h.sees != NOTHING && VOTER ->
		over(SEEN(me));
		promiseOver(me);
		x = DEL; y = LISTVERSION;
		stray(TAKE, OWN, h.sv, x, y, EPOCH);
		h.tried = 1; h.look = 1;
		tidy();
		printf("director %d sends an acquisition, which may yet run\n", me)
	}
	:: d_step { /* multi[check(own lock), set(queue, version), create(record, unknown), delete(every other lock)]. */
		h.phase == WAITING && !h.look && !h.tried && rec == MISSING && EXISTS(OWN) ->
		promiseOver(me);
		rec = UNKNOWN; recv = 0; recl = 0; born++;
#ifdef EPOCHS
		rece = h.most;
#endif
		locks = BIT(OWN);
		h.look = 1;
#ifdef LIST_IN_RECORD
		list = 0; listv = 0;
#endif
		tidy();
		printf("director %d replaces the missing record\n", me)
	}

	/* -------- renewing: multi[check(record, v), set(own lock)] */
	:: d_step {
		h.phase == HOLDING && OURS(OWN, h.v) ->
		renewed(OWN);
		extend(LIVE);
		tidy();
		printf("director %d renews\n", me)
	}

	/* -------- the list of voters */
	VOTERS(0)
	VOTERS(3)
#if N > 2
	VOTERS(5)
	VOTERS(6)
	VOTERS(7)
#endif

	/* -------- questions and promises */
	ASK(0)
	ASK(1)
#if N > 2
	ASK(2)
#endif

	/* -------- the receipt: for the holding that was fenced, for an earlier life, for a lock that is no more in use */
	:: d_step {
		rec == HELD && OWNER(recl) == me && EXISTS(recl) && (NUMBER(recl) != h.lock || h.phase == OUT) ->
		receipt();
		h.look = 1;
		tidy();
		printf("director %d writes the receipt for a lock of its own\n", me)
	}

	/* -------- what was astray runs */
	:: d_step {
		h.astray == TAKE ->
		take(h.aown, h.av, h.adel, h.alv, h.aset);
		if
		:: ok -> settled(me)
		:: else
		fi;
		tidy();
		printf("director %d: an acquisition that was astray runs; record names %d\n", me, recl)
	}
	:: d_step {
		h.astray == LIST && OURS(h.aown, h.av) && listv == h.alv ->
		x = h.aset; y = h.aown;
		settled(me);
		write(y, x);
		tidy();
		printf("director %d: a write of the list that was astray runs: %d\n", me, list)
	}
	od
}

init {
	atomic {
		for (i : 0 .. N - 1) {
			host[i].look = 1;
			run Director(i)
		}
		if /* `apply` created the whole cluster, or a group in one that is there */
		:: rec = RELEASED
		:: rec = UNKNOWN
		fi;
		done()
	}
	do
	:: d_step { /* The record is deleted by hand. */
		rec != MISSING && born < C ->
		rec = MISSING; recv = 0; recl = 0;
#ifdef EPOCHS
		rece = 0;
#endif
		tidy();
		printf("the record is deleted by hand\n")
	}
	:: d_step { /* The list is. */
		listv != NOLIST && gone < D ->
		list = 0; listv = NOLIST; gone++;
		tidy();
		printf("the list of voters is deleted by hand\n")
	}
	od
}
