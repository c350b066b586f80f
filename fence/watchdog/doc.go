// Package watchdog resets the machine through a Linux watchdog device when it is
// not fed: the last layer of the fence, for the case that nothing else on this
// machine works any more.
//
// A Watchdog owns the device and nothing else: its caller says when it is to be
// fed. The interface is that of Documentation/watchdog/watchdog-api.rst of the
// kernel; softdog and hardware of all kinds speak it.
//
// # Guaranteed
//
//   - A device in use (Active) counts from Open on. The driver resets the machine
//     when Feed was not called for the timeout that it granted, whether this
//     process runs, hangs, is stopped or dead. A new life of the process that opens
//     the device within that time goes on feeding it.
//   - A granted timeout is at least half and at most twice what was asked.
//   - Required: Open fails where that cannot be had, and leaves the device stopped
//     if the driver allows it. Automatic: it is done without, and Reason says why.
//   - Only Close stops the device. It believes the device's state in sysfs, or else
//     the driver's word, that it did stop.
//
// # Not guaranteed
//
//   - That the machine does reset: a driver may be told not to (softdog's
//     soft_noboot), and softdog is itself part of the kernel that may hang.
//   - A driver without magic close stops with the death of the process that had it
//     open, unless nowayout is set. Required refuses it; Automatic uses it and logs
//     a warning, for it still resets a machine whose process hangs.
//   - With nowayout, opened is opened: an Open that fails after that point, and
//     Close, say so, and the machine resets unless another process feeds. Limits
//     that the kernel shows in sysfs are therefore looked at before the device is
//     opened. Debian builds its kernels so that nowayout is the default.
//   - Where there is no sysfs of watchdogs and the driver knows no WDIOC_SETOPTIONS
//     either, Close cannot know of nowayout.
//   - In user-mode Linux /dev/watchdog is UML's own; softdog is /dev/watchdog1.
package watchdog
