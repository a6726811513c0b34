package dev.lakehouse.envelope;

/**
 * Reads an RFC 3339 time, such as {@code 2026-01-31T23:59:59.123456+02:00}, as microseconds since 1970 in UTC.
 *
 * <p>Strict where Java's and SQL's readers are lenient: only days that exist, only 00:00:00 to 23:59:59, always an
 * offset, at most nine digits of fraction, of which six count (the rest is cut off). {@code t} and {@code z} may be in
 * lower case. A leap second (second 60) has no place in the time scale of the tables and is refused. So is an instant
 * outside the years 1 to 9999 in UTC, which Python and SQL can't represent.
 */
final class Rfc3339 {
    private static final int DATE_AND_TIME = "2026-01-31T23:59:59".length();
    private static final int MAX_FRACTION_DIGITS = 9;
    private static final int MICRO_DIGITS = 6;
    private static final long MICROS = 1_000_000L;
    private static final long FIRST_SECOND = -62_135_596_800L;
    private static final long LAST_SECOND = 253_402_300_799L;
    private static final int[] DAYS_IN_MONTH = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    private final byte[] text;
    private final int from;
    private final int to;
    private final String field;

    private Rfc3339(byte[] text, int from, int to, String field) {
        this.text = text;
        this.from = from;
        this.to = to;
        this.field = field;
    }

    /** Reads {@code [from, to)} of the text; {@code field} is named in the message if it can't be read. */
    static long micros(byte[] text, int from, int to, String field) throws Unplaceable {
        return new Rfc3339(text, from, to, field).micros();
    }

    private long micros() throws Unplaceable {
        if (to - from <= DATE_AND_TIME
                || text[from + 4] != '-'
                || text[from + 7] != '-'
                || (text[from + 10] | 0x20) != 't'
                || text[from + 13] != ':'
                || text[from + 16] != ':') {
            throw unreadable();
        }
        int year = 100 * twoDigits(from) + twoDigits(from + 2);
        long seconds = 86_400L * epochDay(year, twoDigits(from + 5), twoDigits(from + 8)) + secondOfDay();

        int at = from + DATE_AND_TIME;
        long fraction = 0;
        if (text[at] == '.') {
            int first = ++at;
            int scale = 0;
            while (at < to && JsonScanner.isDigit(text[at])) {
                if (scale < MICRO_DIGITS) {
                    fraction = 10 * fraction + text[at] - '0';
                    scale++;
                }
                at++;
            }
            if (at == first || at - first > MAX_FRACTION_DIGITS) {
                throw refused("its fraction of a second must have one to nine digits");
            }
            for (; scale < MICRO_DIGITS; scale++) {
                fraction *= 10;
            }
        }
        long instant = seconds - offsetSeconds(at);
        if (instant < FIRST_SECOND || instant > LAST_SECOND) {
            throw refused("it lies outside the years 1 to 9999 in UTC");
        }
        return instant * MICROS + fraction;
    }

    private int secondOfDay() throws Unplaceable {
        int hour = twoDigits(from + 11);
        int minute = twoDigits(from + 14);
        int second = twoDigits(from + 17);
        if (second == 60) {
            throw refused("a leap second (second 60) can't be represented");
        }
        if (hour > 23 || minute > 59 || second > 59) {
            throw refused("there is no such time of day");
        }
        return 3600 * hour + 60 * minute + second;
    }

    private int offsetSeconds(int at) throws Unplaceable {
        if (to - at == 1 && (text[at] | 0x20) == 'z') {
            return 0;
        }
        if (to - at != "+02:00".length() || (text[at] != '+' && text[at] != '-') || text[at + 3] != ':') {
            throw unreadable();
        }
        int hours = twoDigits(at + 1);
        int minutes = twoDigits(at + 4);
        if (hours > 23 || minutes > 59) {
            throw refused("there is no such offset");
        }
        int seconds = 3600 * hours + 60 * minutes;
        return text[at] == '+' ? seconds : -seconds;
    }

    /** Days since 1970-01-01 in the proleptic Gregorian calendar. */
    private long epochDay(int year, int month, int day) throws Unplaceable {
        if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) {
            throw refused("there is no such day");
        }
        // Years that start in March put the leap day at their end (Hinnant, days_from_civil).
        int shifted = month > 2 ? year : year - 1;
        int era = Math.floorDiv(shifted, 400);
        int yearOfEra = shifted - 400 * era;
        int dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
        int dayOfEra = 365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100 + dayOfYear;
        return 146_097L * era + dayOfEra - 719_468L;
    }

    private static int daysIn(int year, int month) {
        boolean leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        return month == 2 && leap ? 29 : DAYS_IN_MONTH[month - 1];
    }

    private int twoDigits(int at) throws Unplaceable {
        if (!JsonScanner.isDigit(text[at]) || !JsonScanner.isDigit(text[at + 1])) {
            throw unreadable();
        }
        return 10 * (text[at] - '0') + text[at + 1] - '0';
    }

    private Unplaceable unreadable() {
        return refused("it must be an RFC 3339 time with Z or an offset, such as 2026-01-31T23:59:59.123Z");
    }

    private Unplaceable refused(String reason) {
        return new Unplaceable(ErrorType.INVALID_FIELD, field + " can't be used: " + reason + ".");
    }
}
