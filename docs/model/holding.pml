/*
 * Who may answer for one group: the rules of docs/SAFETY.md, checked
 * exhaustively by spin. README.md beside this file says what is abstracted away
 * and why that is sound; `make model` runs it, variants included.
 *
 * N directors, each with its guard and its kernel, K locks for each of them
 * (FIRST for the first), a record that is deleted by hand up to C times. All
 * that is not counted here is unbounded: renewals, reads, grants, waits, deaths,
 * freezes (a process that is frozen is one that the checker does not let run).
 *
 * Each rule that a variant breaks stands beside an #ifdef of that name; spin
 * -DNAME makes the variant, and must then find a counterexample. Others change
 * what is searched, not what is said: NONE_ASTRAY (no request runs after its
 * sender gave up waiting), SHORTEST (for a search breadth first), SORTED, CLAIM
 * and REACH, see there.
 */
#ifndef N
#define N 2
#endif
#ifndef K
#define K 2
#endif
#ifndef FIRST /* locks of the first director */
#define FIRST K
#endif
#ifndef C
#define C 1
#endif
#if N > 3 || N * K > 6 || C > 2
#error "the fields of a Host and the versions are too narrow for that"
#endif

/* Phases of a director (election.Phase). */
#define OUT       0
#define WAITING   1
#define HOLDING   2 /* the record named our lock; answers what it granted to its guard */
#define SILENT    3 /* the same, but a renewal was refused: no more of them */
#define RELEASING 4 /* fenced, verified: by the guard, by the director, by a new life */

/* States of the record. */
#define MISSING  0
#define RELEASED 1
#define HELD     2
#define UNKNOWN  3

/* Situations (election.situationKind): what a director saw, and waits out. */
#define NOTHING      0
#define SEE_RELEASED 1
#define SEE_FROZEN   2 /* the lock kept its version since: any renewal turns this into NOTHING */
#define SEE_GONE     3
#define SEE_UNKNOWN  4
#define SEE_MISSING  5

/* Requests. */
#define TAKE     1
#define RENEW    2
#define RECEIPT  3
#define REPLACE  4

/* A version that the record does not have and will not have. */
#define STALE 15

/*
 * Leases. One is 0 when it is over, else LIVE and, for each director w that
 * waits, SEEN(w) if it began before w first saw the situation that w waits out.
 * When the wait of w is over such a lease is over: that W is longer than any
 * lease that began before is all that the model knows of time.
 */
#define LIVE    1
#define SEEN(w) (2 << (w))
#define ASKED(w) (2 << (N + (w))) /* variant STAMPED_BEFORE_READ only */

typedef Host {
	/* the director */
	unsigned phase : 3;
	unsigned lock : 2;    /* number of its newest lock, 0 before the first */
	unsigned v : 4;       /* version of the record under which it holds */
	unsigned tried : 1;   /* an acquisition with this lock may yet commit */
	unsigned look : 1;    /* it must read before it does anything else */
	unsigned request : 2; /* under way: TAKE, RENEW */
	unsigned lease : 7;   /* that begins with that request */
	/* its view: the situation, and what was read of the record */
	unsigned sees : 3;
	unsigned sv : 4;      /* the record's version; with SEE_MISSING the queue's */
	unsigned slock : 4;   /* the lock named */
	unsigned sborn : 2;   /* which record (czxid) */
	unsigned sothers : 9; /* with SEE_MISSING: the other locks */
	/* a read under way, of which the record has been read */
	unsigned reading : 1;
	unsigned rstate : 2;
	unsigned rv : 4;
	unsigned rlock : 4;
	unsigned rborn : 2;
	/* a request whose outcome is not known: it may commit at any time, or never */
	unsigned astray : 3;  /* TAKE, RECEIPT, REPLACE */
	unsigned aown : 4;    /* the lock that it was sent with */
	unsigned av : 4;      /* the version of record or queue that it needs */
	unsigned adel : 4;    /* the lock that it deletes */
	unsigned aborn : 2;
	unsigned aothers : 9; /* the other locks that it deletes */
	/* a grant on its way to the guard */
	unsigned glock : 2;
	unsigned grant : 7;
	/* the guard */
	unsigned fenced : 2;  /* newest lock that this guard fenced */
	/* the kernel: it answers while the gate's deadline has not passed */
	unsigned klock : 2;
	unsigned gate : 7;
	unsigned over : 1;    /* the newest lock was fenced, by whomever (for an assertion) */
};
Host host[N];

/* ZooKeeper */
unsigned rec : 2;   /* the record's state */
unsigned recv : 4;  /* its version */
unsigned recl : 4;  /* the lock that it names, 0: none */
unsigned born : 2;  /* how many records there were before it */
unsigned locks : 9; /* those that exist */
unsigned qv : 2;    /* data version of the queue */

#define h        host[me]
#define LOCK(d, n)  ((d) * K + (n)) /* 1 .. N*K; 0 is no lock */
#define OWN         (LOCK(me, h.lock))
#define OWNER(l)    (((l) - 1) / K)
#define NUMBER(l)   (((l) - 1) % K + 1)
#define LIMIT(d)    (d == 0 -> FIRST : K)
#define BIT(l)      (1 << ((l) - 1))
#define EXISTS(l)   ((l) != 0 && (locks & BIT(l)) != 0)
#define GONE(l)     ((l) == 0 || (locks & BIT(l)) == 0)
#define ANSWERS(l)  ((l) != 0 && host[OWNER(l)].gate != 0 && host[OWNER(l)].klock == NUMBER(l))
/* No record will be created any more: versions only grow. */
#define LAST        (rec != MISSING && born == C)

/* Scratch, meaningless between steps: not part of a state, or 0 where spin cannot leave it out (breadth first). */
#ifdef SHORTEST
#define hidden
#endif
hidden byte i, j, x, y, ok;
hidden short refs;

inline done() {
#ifdef SHORTEST
	i = 0; j = 0; x = 0; y = 0; ok = 0; refs = 0;
#endif
#ifdef SORTED
	c_code { sort_hosts(); };
#endif
	skip
}

#ifdef SORTED
/*
 * Directors with as many locks are alike: renaming them turns one behavior into
 * another, and breaks a claim there if it did here. So after each step they are
 * put in order, and of all the states that differ in names only one is left. The
 * order need not be total. Replays would be hard to follow: for "holds" only.
 */
c_code {
	static int other(int d, int a, int b) { return d == a ? b : d == b ? a : d; }

	static int other_lock(int l, int a, int b) { return l ? other((l - 1) / K, a, b) * K + (l - 1) % K + 1 : 0; }

	static int other_locks(int set, int a, int b)
	{
		int l, to = 0;
		for (l = 1; l <= N * K; l++)
			if (set >> (l - 1) & 1)
				to |= 1 << (other_lock(l, a, b) - 1);
		return to;
	}

	static int other_lease(int lease, int a, int b)
	{
		int w, to = lease & 1;
		for (w = 0; w < N; w++)
			if (lease & 2 << w)
				to |= 2 << other(w, a, b);
		return to;
	}

	static void swap_hosts(int a, int b)
	{
		int d;
		struct Host t = now.host[a];
		now.host[a] = now.host[b];
		now.host[b] = t;
		for (d = 0; d < N; d++) {
			struct Host *x = &now.host[d];
			x->lease = other_lease(x->lease, a, b);
			x->grant = other_lease(x->grant, a, b);
			x->gate = other_lease(x->gate, a, b);
			x->slock = other_lock(x->slock, a, b);
			x->rlock = other_lock(x->rlock, a, b);
			x->aown = other_lock(x->aown, a, b);
			x->adel = other_lock(x->adel, a, b);
			x->sothers = other_locks(x->sothers, a, b);
			x->aothers = other_locks(x->aothers, a, b);
		}
		now.recl = other_lock(now.recl, a, b);
		now.locks = other_locks(now.locks, a, b);
	}

	/* What of a host does not depend on names. */
	static unsigned long long rank_of(int d)
	{
		struct Host *x = &now.host[d];
		unsigned long long k = x->phase;
		k = k << 2 | x->lock;
		k = k << 2 | x->request;
		k = k << 3 | x->sees;
		k = k << 1 | x->look;
		k = k << 1 | x->reading;
		k = k << 2 | x->rstate;
		k = k << 3 | x->astray;
		k = k << 1 | (x->lease & 1);
		k = k << 1 | (x->grant & 1);
		k = k << 1 | (x->gate & 1);
		k = k << 1 | x->tried;
		k = k << 2 | x->glock;
		k = k << 2 | x->fenced;
		k = k << 2 | (now.locks >> d * K & ((1 << K) - 1));
		k = k << 1 | (now.recl && (now.recl - 1) / K == d);
		k = k << 4 | x->v;
		k = k << 4 | x->sv;
		k = k << 4 | x->rv;
		k = k << 4 | x->av;
		k = k << 2 | x->sborn;
		k = k << 2 | x->rborn;
		k = k << 2 | x->aborn;
		k = k << 1 | x->over;
		k = k << 2 | x->klock;
		return k;
	}

	static void sort_hosts(void)
	{
		int d, from = FIRST == K ? 0 : 1, again = 1;
		while (again)
			for (again = 0, d = from; d + 1 < N; d++)
				if (rank_of(d) > rank_of(d + 1)) {
					swap_hosts(d, d + 1);
					again = 1;
				}
	}
}
#endif

/* ---------------------------------------------------------------- claims */

/* With -DCLAIM=n only one of them is checked: which one a variant breaks. */
#ifndef CLAIM
#define CLAIM 0
#endif
#if CLAIM == 0 || CLAIM == 1
#define CLAIM_ONE(c) assert(c) /* at most one director answers */
#else
#define CLAIM_ONE(c) skip
#endif
#if CLAIM == 0 || CLAIM == 2
#define CLAIM_RECEIPT(c) assert(c) /* a receipt means that its holder answers no more */
#else
#define CLAIM_RECEIPT(c) skip
#endif
#if CLAIM == 0 || CLAIM == 3
#define CLAIM_EPOCH(c) assert(c) /* epochs grow by one */
#else
#define CLAIM_EPOCH(c) skip
#endif
#if CLAIM == 0 || CLAIM == 4
#define CLAIM_FINAL(c) assert(c) /* a lock is not resumed after a fence */
#else
#define CLAIM_FINAL(c) skip
#endif

/*
 * With -DREACH=n the opposite: the checker must find that a situation is acted
 * upon (its number above) or a lost acquisition is adopted (6). A model in which
 * nothing happens breaks no claim either.
 */
#ifdef REACH
#define HAPPENS(n) assert((n) != REACH)
#else
#define HAPPENS(n) skip
#endif

/* ------------------------------------------------------------------ time */

/* forget: what w waited for has changed; its wait counts no more. */
inline forget(who) {
	for (i : 0 .. N - 1) {
		host[i].lease = host[i].lease & ~SEEN(who);
		host[i].grant = host[i].grant & ~SEEN(who);
		host[i].gate = host[i].gate & ~SEEN(who);
	};
	skip
}

#ifdef STAMPED_BEFORE_READ
#define BEFORE(w, l) ((l) & ASKED(w))
#else
#define BEFORE(w, l) ((l) & LIVE)
#endif

/*
 * sight: w now first saw the situation in its view, by a reply that it has.
 * Leases that run now began before. Those of the lock named count, and, where
 * the record names nobody, those of everybody.
 */
inline sight(who) {
	for (i : 0 .. N - 1) {
		if
		:: i != who && (host[who].sees == SEE_UNKNOWN || (host[who].sees == SEE_FROZEN || host[who].sees == SEE_GONE) && OWNER(host[who].slock) == i) ->
			y = (host[who].sees == SEE_UNKNOWN -> 0 : NUMBER(host[who].slock));
			if
			:: BEFORE(who, host[i].lease) && (y == 0 || y == host[i].lock) -> host[i].lease = host[i].lease | SEEN(who)
			:: else
			fi;
			if
			:: BEFORE(who, host[i].grant) && (y == 0 || y == host[i].glock) -> host[i].grant = host[i].grant | SEEN(who)
			:: else
			fi;
			if
			:: BEFORE(who, host[i].gate) && (y == 0 || y == host[i].klock) -> host[i].gate = host[i].gate | SEEN(who)
			:: else
			fi
		:: else
		fi;
		skip
	};
	skip
}

/* waited: the wait W of w is over, so every lease that began before it is. */
inline waited(who) {
	for (i : 0 .. N - 1) {
		if
		:: host[i].lease & SEEN(who) -> host[i].lease = 0
		:: else
		fi;
#ifndef LEASE_FROM_REPLY
		if
		:: host[i].grant & SEEN(who) -> host[i].grant = 0; host[i].glock = 0
		:: else
		fi;
#endif
		if
		:: host[i].gate & SEEN(who) -> host[i].gate = 0; host[i].klock = 0
		:: else
		fi;
		skip
	};
	skip
}

/* asked: w begins to read. Only for the variant that stamps an observation then. */
inline asked(who) {
#ifdef STAMPED_BEFORE_READ
	for (i : 0 .. N - 1) {
		host[i].lease = (host[i].lease -> host[i].lease | ASKED(who) : 0);
		host[i].grant = (host[i].grant -> host[i].grant | ASKED(who) : 0);
		host[i].gate = (host[i].gate -> host[i].gate | ASKED(who) : 0);
	}
#endif
	skip
}

/* ------------------------------------------------------------- ZooKeeper */

inline blind(who) {
	host[who].sees = NOTHING; host[who].sv = 0; host[who].slock = 0; host[who].sborn = 0; host[who].sothers = 0;
	forget(who);
	skip
}

inline unread(who) {
	host[who].reading = 0; host[who].rstate = 0; host[who].rv = 0; host[who].rlock = 0; host[who].rborn = 0
}

inline settled(who) {
	host[who].astray = NOTHING; host[who].aown = 0; host[who].av = 0; host[who].adel = 0; host[who].aborn = 0; host[who].aothers = 0
}

/*
 * tidy forgets what can have no effect any more, so that states that differ in
 * nothing else become one: requests astray that can never commit, and views and
 * reads on which nothing that could commit can be built.
 */
inline tidy() {
	for (j : 0 .. N - 1) {
		if
		:: host[j].astray == TAKE && (GONE(host[j].aown) || host[j].adel != 0 && GONE(host[j].adel)) -> settled(j)
		:: host[j].astray == REPLACE && (GONE(host[j].aown) || (host[j].aothers & ~locks) != 0) -> settled(j)
#ifndef REPLACE_WITHOUT_QUEUE_VERSION
		:: host[j].astray == REPLACE && host[j].av != qv -> settled(j)
#endif
#ifndef RECEIPT_WITHOUT_LOCK
		:: host[j].astray == RECEIPT && GONE(host[j].adel) -> settled(j)
#endif
#ifndef NO_COMPARE_AND_SET
		:: host[j].astray == TAKE && LAST && recv > host[j].av -> settled(j)
#endif
		:: host[j].astray == RECEIPT && LAST && (recv > host[j].av || recv == host[j].av && rec == HELD && recl == host[j].adel) -> settled(j)
		:: else
		fi;
		if
#ifndef TAKE_WITHOUT_DELETE
		:: host[j].sees == SEE_FROZEN && GONE(host[j].slock) -> blind(j)
#endif
		:: host[j].sees == SEE_MISSING && (host[j].sothers & ~locks) != 0 -> blind(j)
#ifndef REPLACE_WITHOUT_QUEUE_VERSION
		:: host[j].sees == SEE_MISSING && host[j].sv != qv -> blind(j)
#endif
#ifndef NO_COMPARE_AND_SET
		:: host[j].sees != NOTHING && host[j].sees != SEE_MISSING && !host[j].look && LAST && recv > host[j].sv -> blind(j)
#endif
		:: else
		fi;
		if
#if !defined(REPLACE_WITHOUT_QUEUE_VERSION) && !defined(QUEUE_VERSION_LAST)
		:: host[j].reading && host[j].rstate == MISSING && host[j].rv != qv -> unread(j)
#endif
#ifndef NO_COMPARE_AND_SET
		:: host[j].reading && host[j].rstate != MISSING && LAST && recv > host[j].rv -> unread(j)
#endif
		:: else
		fi;
		host[j].tried = (LAST -> 0 : host[j].tried);
		/* Who must read first has no use for what it saw, but for since when it saw it. */
#ifndef VIEW_FROM_BEFORE_LOCK
		if
		:: host[j].phase == OUT && (host[j].sees != SEE_FROZEN || OWNER(host[j].slock) != j) -> host[j].look = 1
		:: else
		fi;
#endif
		if
		:: host[j].look && (host[j].sees == SEE_RELEASED || host[j].sees == SEE_MISSING) -> blind(j)
		:: host[j].look && (host[j].sees == SEE_FROZEN || host[j].sees == SEE_GONE) && !host[j].reading && (rec != HELD || recl != host[j].slock || born != host[j].sborn) -> blind(j)
		:: host[j].look && host[j].sees == SEE_UNKNOWN && !host[j].reading && (rec != UNKNOWN || born != host[j].sborn) -> blind(j)
		:: else
		fi;
		host[j].sv = (host[j].look -> 0 : host[j].sv)
	};
#ifndef NO_COMPARE_AND_SET
	/* Where no record will be created any more, all that still counts of its version is whether it is the one known. */
	x = LAST;
	for (j : 0 .. N - 1) {
		x = x && (host[j].phase < HOLDING || host[j].v <= recv || host[j].v == STALE);
		x = x && (host[j].astray == REPLACE || host[j].av <= recv) && (host[j].sees == SEE_MISSING || host[j].sv <= recv) && (host[j].rv <= recv || host[j].rstate == MISSING)
	}
	if
	:: x && recv > 0 ->
		for (j : 0 .. N - 1) {
			host[j].v = (host[j].phase < HOLDING -> 0 : (host[j].v == recv -> 0 : STALE));
			host[j].av = 0; host[j].sv = 0; host[j].rv = 0
		}
		recv = 0
	:: else
	fi;
#endif
	/* An own lock that is not in use, and that nobody has read of, is deleted. */
	refs = (rec == HELD -> BIT(recl) : 0);
	for (j : 0 .. N - 1) {
		refs = (host[j].phase != OUT -> refs | BIT(LOCK(j, host[j].lock)) : refs);
		refs = (host[j].slock -> refs | BIT(host[j].slock) : refs);
		refs = (host[j].rlock -> refs | BIT(host[j].rlock) : refs);
		refs = (host[j].aown -> refs | BIT(host[j].aown) : refs);
		refs = (host[j].adel -> refs | BIT(host[j].adel) : refs)
	}
	locks = locks & refs;
	for (j : 0 .. N - 1) {
		host[j].sothers = host[j].sothers & refs;
		host[j].aothers = host[j].aothers & refs
	}
	skip
}

/* renewed: the lock's version has changed; nobody can delete it at the old one. */
inline renewed(theLock) {
#if !defined(TAKE_ANY_VERSION) && !defined(TAKE_WITHOUT_DELETE)
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
#endif
	skip
}

#ifdef NO_COMPARE_AND_SET
#define VERSION(v) (rec != MISSING)
#else
#define VERSION(v) (rec != MISSING && recv == (v))
#endif

/*
 * take: multi[check(own lock), delete(holder's lock, V) in case b, setData(record, v, epoch + 1), setData(own lock)].
 * The epoch written is one more than the one read with version v of that
 * record, so that epochs grow by one if it is that very record and version.
 */
inline take(theLock, theVersion, theHolder, theRecord) {
	ok = EXISTS(theLock) && VERSION(theVersion);
#ifndef TAKE_WITHOUT_DELETE
	ok = ok && ((theHolder) == 0 || EXISTS(theHolder));
#endif
	if
	:: ok ->
		CLAIM_EPOCH(recv == (theVersion) && born == (theRecord));
#ifndef TAKE_WITHOUT_DELETE
		locks = ((theHolder) != 0 -> locks & ~BIT(theHolder) : locks);
#endif
		rec = HELD; recv++; recl = (theLock)
	:: else
	fi;
	skip
}

/*
 * receipt: multi[setData(record, v, released), delete(the lock named in it)].
 * Its former holder does not answer any more, nor does whom it overwrites.
 */
inline receipt(theLock, theVersion) {
	ok = rec != MISSING && recv == (theVersion);
#ifndef RECEIPT_WITHOUT_LOCK
	ok = ok && EXISTS(theLock);
#endif
	if
	:: ok ->
		CLAIM_RECEIPT(!ANSWERS(theLock) && (rec != HELD || !ANSWERS(recl)));
		locks = locks & ~BIT(theLock);
		rec = RELEASED; recv++; recl = (theLock)
	:: else
	fi;
	skip
}

#ifdef REPLACE_WITHOUT_QUEUE_VERSION
#define QUEUE(g) 1
#else
#define QUEUE(g) (qv == (g))
#endif

/* replace: multi[check(own lock), setData(queue, g), create(record, unknown), delete(every other lock read)]. */
inline replace(theLock, theVersion, theOthers) {
	ok = EXISTS(theLock) && QUEUE(theVersion) && rec == MISSING && ((theOthers) & ~locks) == 0;
	if
	:: ok ->
		HAPPENS(SEE_MISSING);
		rec = UNKNOWN; recv = 0; recl = 0; born++;
		qv++;
		locks = locks & ~(theOthers)
	:: else
	fi;
	skip
}

/* ---------------------------------------------------- one director's host */

/* stop: this host does not answer any more, verified (fence.Host.Fence). */
inline stop() {
	h.gate = 0; h.klock = 0; h.over = 1
}

/* enough: the director drops its lock from memory and may queue anew. */
inline enough() {
	h.phase = OUT; h.v = 0; h.tried = 0; h.over = 1
}

/* released: fenced, verified. A renewal under way does not matter any more. */
inline released() {
	h.phase = RELEASING; h.request = NOTHING; h.lease = 0;
	h.fenced = (h.glock == 0 -> 0 : h.fenced)
}

/* another: a fresh guard takes the place of one that is dead. */
inline another() {
	h.fenced = 0;
#ifndef GRANT_WITHOUT_GUARD_ID
	h.glock = 0; h.grant = 0;
#endif
	skip
}

/* hold: the record names our lock. Nothing is answered until a lease is granted. */
inline hold(theVersion) {
	h.phase = HOLDING; h.v = (theVersion); h.tried = 0; h.look = 0;
	blind(me);
	unread(me);
	skip
}

/* grants: D counts from before sending, whenever the reply came. */
inline grants() {
	if
	:: h.lease != 0 -> h.grant = h.lease; h.glock = h.lock
	:: else /* too late */
	fi;
	h.request = NOTHING; h.lease = 0
}

/* stray: the outcome is not known. One stray a director is kept, the newest or not. */
inline stray(theKind, theLock, theVersion, theHolder, theRecord, theOthers) {
#ifndef NONE_ASTRAY
	h.astray = theKind; h.aown = theLock; h.av = theVersion; h.adel = theHolder; h.aborn = theRecord; h.aothers = theOthers;
#endif
	skip
}

#define UNCHANGED (x == h.sees && h.rlock == h.slock && h.rborn == h.sborn)
#define DEL       (h.sees == SEE_FROZEN -> h.slock : 0)
#define TAKEABLE  (h.sees == SEE_RELEASED || h.sees == SEE_FROZEN || h.sees == SEE_GONE || h.sees == SEE_UNKNOWN)

#ifdef RECEIPT_BEFORE_FENCE
#define MAY_RECEIPT (h.phase == RELEASING || h.phase == HOLDING)
#else
#define MAY_RECEIPT (h.phase == RELEASING)
#endif

#ifdef REPLACE_AFTER_TRY
#define UNTRIED 1
#else
#define UNTRIED (!h.tried) /* else a fresh lock first */
#endif

#ifdef GRANT_AFTER_FENCE
#define NOT_FENCED 1
#else
#define NOT_FENCED (h.glock > h.fenced)
#endif

#define HELDHERE (h.phase == HOLDING || h.phase == SILENT)
#define IDLE     ((h.phase == OUT || h.phase == WAITING) && !h.look && h.request == NOTHING)

proctype Director(byte me)
{
	do
	/* -------- the queue */
	:: d_step { /* A fresh lock, whose name was never used. What is read for it is read after. */
		h.phase == OUT && h.request == NOTHING && h.lock < LIMIT(me) ->
		h.lock++; h.phase = WAITING; h.over = 0;
		h.fenced = (h.glock == 0 -> 0 : h.fenced);
#ifndef VIEW_FROM_BEFORE_LOCK
		h.look = 1;
		unread(me);
#endif
		locks = locks | BIT(OWN);
		tidy();
		printf("director %d queues a fresh lock\n", me);
		done()
	}
	:: d_step { /* Session lost, killed, not fit any more, stepping back: the lock may stay behind. */
		h.phase == WAITING && h.request == NOTHING ->
		enough();
		tidy();
		printf("director %d leaves the queue, or is killed while it waits\n", me);
		done()
	}
	:: d_step { /* A lock vanishes: session expired, deleted by hand, or a stray of one's own deleted. */
		h.lock > 0 && EXISTS(OWN) ->
		locks = locks & ~BIT(OWN);
		tidy();
		printf("director %d: its newest lock vanishes (session expired, or deleted by hand)\n", me);
		done()
	}
	:: d_step { /* Older ones. */
		h.lock > 1 && EXISTS(OWN - 1) ->
		locks = locks & ~BIT(OWN - 1);
		tidy();
		printf("director %d: an older lock of it vanishes\n", me);
		done()
	}
	:: d_step {
		h.lock > 2 && EXISTS(OWN - 2) ->
		locks = locks & ~BIT(OWN - 2);
		tidy();
		printf("director %d: its oldest lock vanishes\n", me);
		done()
	}

	/* -------- reading: record first (with the queue's version before it), then the locks */
	:: d_step { /* Also while a request is under way whose reply is lost then: a server that lags. */
		(h.phase == OUT || h.phase == WAITING) && !h.reading ->
		h.reading = 1; h.rstate = rec; h.rlock = (rec == MISSING || rec == UNKNOWN -> 0 : recl);
		h.rv = (rec == MISSING -> qv : recv); h.rborn = (rec == MISSING -> 0 : born);
#ifdef QUEUE_VERSION_LAST
		h.v = locks & ~BIT(OWN);
#endif
		asked(me);
		printf("director %d reads the record\n", me);
		done()
	}
	:: d_step { /* The locks and the reply. */
		h.reading && h.request == NOTHING && (h.phase == OUT || h.phase == WAITING) ->
		if
		:: h.rstate == MISSING -> x = SEE_MISSING
		:: h.rstate == UNKNOWN -> x = SEE_UNKNOWN
		:: h.rstate == RELEASED -> x = (EXISTS(h.rlock) -> NOTHING : SEE_RELEASED)
		:: h.rstate == HELD -> x = (EXISTS(h.rlock) -> SEE_FROZEN : SEE_GONE)
		fi;
		h.look = 0;
		if
		:: h.phase == WAITING && GONE(OWN) -> enough() /* our lock is gone: queue anew */
		:: else
		fi;
		if
		:: h.phase == WAITING && h.rstate == HELD && h.rlock == OWN ->
			/* (d) The reply to our acquisition was lost: renew first, then answer. */
			HAPPENS(6);
			hold(h.rv);
#ifdef ADOPT_WITHOUT_RENEWAL
			h.lease = LIVE; grants();
#endif
		:: else ->
			if
			:: UNCHANGED -> h.sv = h.rv
			:: else ->
				blind(me);
				h.sees = x; h.sv = h.rv; h.slock = h.rlock; h.sborn = h.rborn;
				sight(me)
			fi;
			if
			:: x == SEE_MISSING ->
				h.sothers = (h.phase == WAITING -> locks & ~BIT(OWN) : locks);
#ifdef QUEUE_VERSION_LAST
				h.sv = qv; h.sothers = h.v; h.v = 0
#endif
			:: x == NOTHING -> blind(me)
			:: else
			fi;
			unread(me)
		fi;
		tidy();
		printf("director %d reads the locks, and has the reply\n", me);
		done()
	}

	/* -------- acquiring */
	:: d_step { /* (a) at once; (b), (c), (c') after W. The lease begins now. */
		h.phase == WAITING && !h.look && h.request == NOTHING && TAKEABLE ->
		if
#ifdef WAIT_TOO_SHORT
		:: h.sees == SEE_FROZEN -> skip
#endif
#ifdef NO_WAIT_AFTER_DELETION
		:: h.sees == SEE_GONE -> skip
#endif
#ifdef NO_WAIT_FOR_UNKNOWN
		:: h.sees == SEE_UNKNOWN -> skip
#endif
		:: else -> waited(me)
		fi;
		h.request = TAKE; h.lease = LIVE;
		printf("director %d may take the group, and sends its acquisition\n", me);
		done()
	}
	:: d_step { /* It runs, and its reply comes, if late. */
		h.request == TAKE ->
		ok = 0;
		if
		:: TAKEABLE -> x = DEL; take(OWN, h.sv, x, h.sborn)
		:: else /* the lock was renewed meanwhile, or the record written */
		fi;
		if
		:: ok -> HAPPENS(h.sees); renewed(OWN); hold(recv); grants()
		:: else -> h.request = NOTHING; h.lease = 0; h.look = 1
		fi;
		tidy();
		printf("director %d: the acquisition runs (committed: %d), and is answered\n", me, ok);
		done()
	}
	:: d_step { /* It runs, and its reply is lost. */
		h.request == TAKE ->
		ok = 0;
		if
		:: TAKEABLE -> x = DEL; take(OWN, h.sv, x, h.sborn)
		:: else
		fi;
		if
		:: ok -> renewed(OWN)
		:: else
		fi;
		h.request = NOTHING; h.lease = 0; h.tried = 1; h.look = 1;
		tidy();
		printf("director %d: the acquisition runs (committed: %d), and the reply is lost\n", me, ok);
		done()
	}
	:: d_step { /* It is not known, and may run later. */
		h.request == TAKE ->
		if
		:: TAKEABLE -> x = DEL; stray(TAKE, OWN, h.sv, x, h.sborn, 0)
		:: else
		fi;
		h.request = NOTHING; h.lease = 0; h.tried = 1; h.look = 1;
		tidy();
		printf("director %d: no reply to the acquisition, which may yet run\n", me);
		done()
	}
	:: d_step { /* It never runs. */
		h.request == TAKE ->
		h.request = NOTHING; h.lease = 0; h.tried = 1; h.look = 1;
		tidy();
		printf("director %d: no reply to the acquisition, which never ran\n", me);
		done()
	}
#ifdef MISSING_IS_FREE
	:: d_step {
		h.phase == WAITING && !h.look && h.request == NOTHING && h.sees == SEE_MISSING && rec == MISSING && EXISTS(OWN) ->
		rec = HELD; recv = 0; recl = OWN; born++;
		hold(0);
		h.lease = LIVE; grants();
		tidy();
		printf("director %d takes a missing record for a free one\n", me);
		done()
	}
#endif

	/* -------- a missing record */
	:: d_step {
		h.phase == WAITING && !h.look && h.request == NOTHING && h.sees == SEE_MISSING && UNTRIED ->
#ifdef REPLACE_WITHOUT_DELETE
		h.sothers = 0;
#endif
		replace(OWN, h.sv, h.sothers);
		h.look = 1;
		tidy();
		printf("director %d replaces the missing record (committed: %d)\n", me, ok);
		done()
	}
	:: d_step {
		h.phase == WAITING && !h.look && h.request == NOTHING && h.sees == SEE_MISSING && UNTRIED ->
#ifdef REPLACE_WITHOUT_DELETE
		h.sothers = 0;
#endif
		stray(REPLACE, OWN, h.sv, 0, 0, h.sothers);
		h.look = 1;
		tidy();
		printf("director %d: a replacement of the missing record goes astray\n", me);
		done()
	}

	/* -------- renewing: multi[check(record, v), setData(own lock)] */
	:: d_step {
		h.phase == HOLDING && h.request == NOTHING ->
		h.request = RENEW; h.lease = LIVE;
		printf("director %d sends a renewal\n", me);
		done()
	}
	:: d_step {
		h.request == RENEW ->
		ok = EXISTS(OWN);
#ifndef RENEW_WITHOUT_RECORD
		ok = ok && rec != MISSING && recv == h.v;
#endif
		if
		:: ok -> renewed(OWN); grants()
		:: else -> h.request = NOTHING; h.lease = 0; h.phase = SILENT
		fi;
		tidy();
		printf("director %d: the renewal runs (committed: %d); the grant is on its way\n", me, ok);
		done()
	}
	:: d_step { /* Its outcome is not known: never proof of anything. */
		h.request == RENEW ->
		h.request = NOTHING; h.lease = 0;
		printf("director %d: no reply to the renewal\n", me);
		done()
	}

	/* -------- letting go */
	:: d_step { /* The guard fences: on the director's order, or because that is silent or dead. Final for the lock. */
		HELDHERE ->
		stop();
		h.fenced = h.lock;
		released();
		printf("director %d: the guard fences\n", me);
		done()
	}
	:: d_step { /* The guard is dead, or the director kills it, fences by itself, and starts another. */
		HELDHERE ->
		stop();
		released();
		another();
		printf("director %d: the guard is dead; the director fences by itself\n", me);
		done()
	}
	:: d_step { /* Both are dead. A new life starts when no process of the old one is left, and fences first. */
		HELDHERE ->
#ifndef NEW_LIFE_WITHOUT_FENCE
		stop();
#endif
		released();
		another();
		enough();
		h.look = 1;
		tidy();
		printf("director %d: both were killed; a new life begins\n", me);
		done()
	}
	:: d_step { /* The receipt, written by whoever fenced, or by the director on the guard's word. */
		MAY_RECEIPT && h.request == NOTHING ->
		receipt(OWN, h.v);
		if
		:: ok -> enough(); h.look = 1; unread(me)
		:: else
		fi;
		tidy();
		printf("director %d: a receipt is sent (committed: %d)\n", me, ok);
		done()
	}
	:: d_step { /* It goes astray. */
		MAY_RECEIPT && h.request == NOTHING ->
		stray(RECEIPT, 0, h.v, OWN, 0, 0);
		tidy();
		printf("director %d: a receipt goes astray\n", me);
		done()
	}
	:: d_step { /* No receipt: the lock or the record is gone, or ZooKeeper. */
		h.phase == RELEASING ->
		enough(); h.look = 1;
		tidy();
		printf("director %d gives up without a receipt\n", me);
		done()
	}
	:: d_step { /* The receipt for an earlier life, or for an own lock that is no more in use. */
		IDLE && h.sees == SEE_FROZEN && OWNER(h.slock) == me ->
		receipt(h.slock, h.sv);
		h.look = 1;
		tidy();
		printf("director %d: a receipt for a lock not in use any more is sent (committed: %d)\n", me, ok);
		done()
	}
	:: d_step {
		IDLE && h.sees == SEE_FROZEN && OWNER(h.slock) == me ->
		stray(RECEIPT, 0, h.sv, h.slock, 0, 0);
		h.look = 1;
		tidy();
		printf("director %d: a receipt for a lock not in use any more goes astray\n", me);
		done()
	}
	:: d_step { /* One that was sent long ago, while versions still tell records apart. */
		rec == HELD && OWNER(recl) == me && EXISTS(recl) && (NUMBER(recl) != h.lock || h.phase == OUT) ->
		x = recl; y = recv;
		receipt(x, y);
		tidy();
		printf("director %d: an old receipt runs (committed: %d)\n", me, ok);
		done()
	}

	/* -------- what was astray runs */
	:: d_step {
		h.astray != NOTHING ->
		if
		:: h.astray == TAKE ->
			take(h.aown, h.av, h.adel, h.aborn);
			if
			:: ok -> y = h.aown; settled(me); renewed(y)
			:: else
			fi
		:: h.astray == RECEIPT ->
			receipt(h.adel, h.av);
			if
			:: ok -> settled(me)
			:: else
			fi
		:: h.astray == REPLACE ->
			replace(h.aown, h.av, h.aothers);
			if
			:: ok -> settled(me)
			:: else
			fi
		fi;
		tidy();
		printf("director %d: what was astray runs (committed: %d)\n", me, ok);
		done()
	}

	/* -------- the guard and the kernel */
	:: d_step { /* A grant arrives. */
		h.glock != 0 && NOT_FENCED ->
		printf("director %d: a grant reaches the guard, and the gate opens\n", me);
		for (i : 0 .. N - 1) {
			CLAIM_ONE(i == me || host[i].gate == 0)
		}
		CLAIM_FINAL(h.glock == h.lock && !h.over);
#ifdef LEASE_FROM_REPLY
		h.grant = LIVE;
#endif
		h.klock = h.glock; h.gate = h.grant;
		h.glock = 0; h.grant = 0;
		done()
	}
	:: d_step { /* Refused. */
		h.glock != 0 && h.glock <= h.fenced ->
		h.glock = 0; h.grant = 0; h.fenced = 0;
		printf("director %d: the guard refuses a grant\n", me);
		done()
	}
	od
}

init {
	atomic {
		for (i : 0 .. N - 1) {
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
		tidy();
		printf("the record is deleted by hand\n");
		done()
	}
#ifdef APPLY_RECREATES
	:: d_step {
		rec == MISSING ->
		rec = RELEASED; recv = 0; recl = 0; born++;
		tidy();
		printf("apply creates the record anew, as released\n");
		done()
	}
#endif
	od
}
