//! The file of invoices, read as a whole: what was sold, what came back, and what cannot be imported, each row counted
//! once. Amounts are exact: decimal text becomes millionths, never a float.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::BufRead,
};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDateTime, Utc};

use crate::import::file;

/// In millionths of the currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exact(pub(super) i128);

const MILLION: i128 = 1_000_000;
/// Millionths in a penny.
const PENNY: i128 = 10_000;

/// Why a row becomes neither a line of an order nor returned stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    ZeroPrice,
    NegativePrice,
    SubPennyPrice,
    ZeroQuantity,
    /// A return of what was never sold at any price.
    NothingToReturnTo,
    Unreadable,
}

/// How many rows, and what they come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) money: Exact,
}

#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) rows: u64,
    pub(super) codes: Vec<Code>,
    pub(super) invoices: Vec<SaleInvoice>,
    pub(super) returns: Vec<Return>,
    /// Rows that sell something, whatever became of them.
    pub(super) sales: Tally,
    pub(super) placeable: Tally,
    pub(super) skipped: BTreeMap<Skip, Tally>,
}

/// A stock code with every price it was sold at.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub(super) text: String,
    descriptions: HashMap<String, u32>,
    /// By price in pennies: how many rows sold at it.
    sold: BTreeMap<i64, u32>,
    returned: BTreeMap<i64, u32>,
}

#[derive(Debug)]
pub(super) struct SaleInvoice {
    pub(super) number: String,
    pub(super) customer: Option<String>,
    pub(super) country: String,
    pub(super) date: DateTime<Utc>,
    /// Rows of the same code at the same price are one line.
    pub(super) lines: Vec<Line>,
    pub(super) rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) code: usize,
    pub(super) pennies: i64,
    pub(super) quantity: u32,
}

#[derive(Debug)]
pub(super) struct Return {
    pub(super) invoice: String,
    /// Counts the rows of the invoice, so that two alike are two.
    pub(super) row: u32,
    pub(super) code: usize,
    /// None of a price that no order could have.
    pub(super) pennies: Option<i64>,
    pub(super) quantity: u32,
    pub(super) date: DateTime<Utc>,
}

struct Columns {
    invoice: usize,
    code: usize,
    description: usize,
    quantity: usize,
    date: usize,
    price: usize,
    customer: usize,
    country: usize,
}

impl Sheet {
    pub(super) fn read(
        reader: Box<dyn BufRead + Send>,
        mut progress: impl FnMut(u64),
    ) -> anyhow::Result<Self> {
        let mut reader = file::csv_reader(reader);
        let columns = Columns::find(reader.byte_headers()?)?;
        let mut sheet = Self::default();
        let mut codes = HashMap::new();
        let mut open = HashMap::new();
        let mut record = csv::ByteRecord::new();
        let mut rows_of_returns = HashMap::new();
        while reader.read_byte_record(&mut record)? {
            sheet.rows += 1;
            if sheet.rows.is_multiple_of(10_000) {
                progress(sheet.rows);
            }
            let cell = |index: usize| {
                str::from_utf8(record.get(index).unwrap_or_default()).unwrap_or("\u{fffd}").trim()
            };
            let Some(row) = Row::parse(&columns, cell) else {
                sheet.skip(Skip::Unreadable, Exact::default());
                continue;
            };
            let code = *codes.entry(row.code.to_owned()).or_insert_with(|| {
                sheet.codes.push(Code { text: row.code.to_owned(), ..Code::default() });
                sheet.codes.len() - 1
            });
            sheet.codes[code].describe(row.description);
            if row.is_return() {
                let count = rows_of_returns.entry(row.invoice.to_owned()).or_insert(0);
                *count += 1;
                sheet.take_return(&row, code, *count);
            } else {
                sheet.take_sale(&row, code, &mut open);
            }
        }
        sheet.forget_returns_of_nothing();
        Ok(sheet)
    }

    fn take_sale(&mut self, row: &Row<'_>, code: usize, open: &mut HashMap<String, usize>) {
        let money = row.price.times(row.quantity);
        self.sales.add(money);
        let (pennies, quantity) = match row.placeable() {
            Ok(sold) => sold,
            Err(reason) => return self.skip(reason, money),
        };
        self.placeable.add(money);
        *self.codes[code].sold.entry(pennies).or_default() += 1;
        // The rows of an invoice need not stand together.
        let invoice = *open.entry(row.invoice.to_owned()).or_insert_with(|| {
            self.invoices.push(SaleInvoice::new(row));
            self.invoices.len() - 1
        });
        self.invoices[invoice].add(Line { code, pennies, quantity });
    }

    fn take_return(&mut self, row: &Row<'_>, code: usize, count: u32) {
        let pennies = row.price.pennies().filter(|pennies| *pennies > 0);
        let Some(quantity) = u32::try_from(row.quantity.unsigned_abs()).ok().filter(|quantity| *quantity > 0)
        else {
            return self.skip(Skip::ZeroQuantity, Exact::default());
        };
        if let Some(pennies) = pennies {
            *self.codes[code].returned.entry(pennies).or_default() += 1;
        }
        self.returns.push(Return {
            invoice: row.invoice.to_owned(),
            row: count,
            code,
            pennies,
            quantity,
            date: row.date,
        });
    }

    fn forget_returns_of_nothing(&mut self) {
        let before = self.returns.len();
        let codes = &self.codes;
        self.returns.retain(|returned| codes[returned.code].prices().next().is_some());
        for _ in self.returns.len()..before {
            self.skip(Skip::NothingToReturnTo, Exact::default());
        }
    }

    fn skip(&mut self, reason: Skip, money: Exact) {
        self.skipped.entry(reason).or_default().add(money);
    }

    /// Of the rows that sell something.
    pub(super) fn skipped_sales(&self) -> Exact {
        Exact(self.skipped.values().map(|tally| tally.money.0).sum())
    }
}

impl Code {
    fn describe(&mut self, description: &str) {
        if !description.is_empty() {
            *self.descriptions.entry(description.to_owned()).or_default() += 1;
        }
    }

    /// What most rows call it.
    pub(super) fn name(&self) -> &str {
        let most = self.descriptions.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        most.map_or(&self.text, |(name, _)| name)
    }

    /// Every price it is sold at, the most common first; of a code that was only returned, those of the returns.
    pub(super) fn prices(&self) -> impl Iterator<Item = i64> {
        let prices = if self.sold.is_empty() { &self.returned } else { &self.sold };
        let usual =
            prices.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0))).map(|(price, _)| *price);
        usual.into_iter().chain(prices.keys().copied().filter(move |price| Some(*price) != usual))
    }

    /// The price whose stock a return goes back to: its own if there is such, else the usual one.
    pub(super) fn price_of_return(&self, pennies: Option<i64>) -> Option<i64> {
        pennies.filter(|own| self.prices().any(|price| price == *own)).or_else(|| self.prices().next())
    }
}

impl SaleInvoice {
    fn new(row: &Row<'_>) -> Self {
        Self {
            number: row.invoice.to_owned(),
            customer: (!row.customer.is_empty()).then(|| row.customer.to_owned()),
            country: row.country.to_owned(),
            date: row.date,
            lines: Vec::new(),
            rows: 0,
        }
    }

    fn add(&mut self, line: Line) {
        self.rows += 1;
        match self.lines.iter_mut().find(|known| known.code == line.code && known.pennies == line.pennies) {
            Some(known) => known.quantity = known.quantity.saturating_add(line.quantity),
            None => self.lines.push(line),
        }
    }

    pub(super) fn pennies(&self) -> i64 {
        self.lines.iter().map(|line| line.pennies * i64::from(line.quantity)).sum()
    }
}

struct Row<'a> {
    invoice: &'a str,
    code: &'a str,
    description: &'a str,
    quantity: i64,
    date: DateTime<Utc>,
    price: Exact,
    customer: &'a str,
    country: &'a str,
}

impl<'a> Row<'a> {
    fn parse(columns: &Columns, cell: impl Fn(usize) -> &'a str) -> Option<Self> {
        let (invoice, code) = (cell(columns.invoice), cell(columns.code));
        if invoice.is_empty() || code.is_empty() {
            return None;
        }
        let quantity = Exact::parse(cell(columns.quantity)).filter(|quantity| quantity.0 % MILLION == 0)?;
        let customer = cell(columns.customer);
        Some(Self {
            invoice,
            code,
            description: cell(columns.description),
            quantity: i64::try_from(quantity.0 / MILLION).ok()?,
            date: date(cell(columns.date))?,
            price: Exact::parse(cell(columns.price))?,
            // A spreadsheet made numbers of them.
            customer: customer.strip_suffix(".0").unwrap_or(customer),
            country: cell(columns.country),
        })
    }

    fn is_return(&self) -> bool {
        self.invoice.starts_with('C') || self.quantity < 0
    }

    /// Price in pennies and quantity, of what an order can hold.
    fn placeable(&self) -> Result<(i64, u32), Skip> {
        let price = self.price.0;
        if price == 0 {
            return Err(Skip::ZeroPrice);
        }
        if price < 0 {
            return Err(Skip::NegativePrice);
        }
        let pennies = self.price.pennies().ok_or(Skip::SubPennyPrice)?;
        match u32::try_from(self.quantity) {
            Ok(0) => Err(Skip::ZeroQuantity),
            Ok(quantity) => Ok((pennies, quantity)),
            Err(_) => Err(Skip::Unreadable),
        }
    }
}

impl Columns {
    fn find(header: &csv::ByteRecord) -> anyhow::Result<Self> {
        let find = |name: &str| {
            header
                .iter()
                .position(|cell| cell.trim_ascii() == name.as_bytes())
                .with_context(|| format!("the first line names no column `{name}`"))
        };
        if header.is_empty() {
            bail!("the file is empty");
        }
        Ok(Self {
            invoice: find("InvoiceNo")?,
            code: find("StockCode")?,
            description: find("Description")?,
            quantity: find("Quantity")?,
            date: find("InvoiceDate")?,
            price: find("UnitPrice")?,
            customer: find("CustomerID")?,
            country: find("Country")?,
        })
    }
}

impl Tally {
    pub(super) fn add(&mut self, money: Exact) {
        self.rows += 1;
        self.money.0 += money.0;
    }
}

impl Exact {
    /// Digits with at most six decimals, and a sign.
    fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 6 || whole.len() > 18 {
            return None;
        }
        if !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction: i128 = format!("{fraction:0<6}").parse().ok()?;
        Some(Self(sign * (whole * MILLION + fraction)))
    }

    pub(super) fn of_pennies(pennies: i64) -> Self {
        Self(i128::from(pennies) * PENNY)
    }

    /// None of an amount that is not whole pennies.
    fn pennies(self) -> Option<i64> {
        if self.0 % PENNY != 0 {
            return None;
        }
        i64::try_from(self.0 / PENNY).ok()
    }

    fn times(self, quantity: i64) -> Self {
        Self(self.0 * i128::from(quantity))
    }
}

/// With two decimals at least, and as many as it takes.
impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) =
            (self.0.unsigned_abs() / MILLION as u128, self.0.unsigned_abs() % MILLION as u128);
        let fraction = format!("{fraction:06}");
        let kept = fraction.trim_end_matches('0').len().max(2);
        let whole = crate::progress::grouped(u64::try_from(whole).unwrap_or(u64::MAX));
        f.pad(&format!("{sign}{whole}.{}", &fraction[..kept]))
    }
}

impl Skip {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ZeroPrice => "zero price",
            Self::NegativePrice => "negative price",
            Self::SubPennyPrice => "price below a penny",
            Self::ZeroQuantity => "zero quantity",
            Self::NothingToReturnTo => "return of what has no price",
            Self::Unreadable => "unreadable",
        }
    }
}

/// As the data set has been published, as CSV and as a spreadsheet. The shop's clock is taken for UTC.
fn date(text: &str) -> Option<DateTime<Utc>> {
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%y %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|date| date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn sheet(rows: &str) -> Sheet {
        Sheet::read(Box::new(std::io::Cursor::new(format!("{HEADER}{rows}"))), |_| {}).expect("a sheet")
    }

    #[test]
    fn decimals_are_exact() {
        for (text, millionths) in [
            ("2.55", 2_550_000),
            ("0.001", 1_000),
            ("-11062.06", -11_062_060_000),
            ("6.0", 6_000_000),
            (".5", 500_000),
        ] {
            assert_eq!(Exact::parse(text), Some(Exact(millionths)), "{text}");
        }
        for text in ["", ".", "1e3", "1,000", "0.0000001", "--1", "NaN"] {
            assert_eq!(Exact::parse(text), None, "{text}");
        }
        assert_eq!(Exact(10_666_684_544_000).to_string(), "10,666,684.544");
        assert_eq!(Exact(-22_124_120_000).to_string(), "-22,124.12");
        assert_eq!(Exact(0).to_string(), "0.00");
    }

    #[test]
    fn every_row_is_counted_once() {
        let sheet = sheet(
            "1,A,Lamp,6.0,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n\
             2,A,Lamp,1,2010-12-01 09:00:00,2.55,,France\n\
             1,B,Pot,2,2010-12-01 08:27:00,1.5,17850.0,United Kingdom\n\
             3,A,,1,2010-12-02 09:00:00,0.0,,France\n\
             3,B,,1,2010-12-02 09:00:00,0.001,,France\n\
             A4,B,Adjust,1,2010-12-02 09:00:00,-5.0,,France\n\
             C5,A,Lamp,-1,2010-12-03 09:00:00,2.55,17850.0,United Kingdom\n\
             6,B,damaged,-3,2010-12-03 09:00:00,0.0,,France\n\
             6,Z,lost,-3,2010-12-03 09:00:00,0.0,,France\n\
             7,B,Pot,x,2010-12-03 09:00:00,0.0,,France\n",
        );
        assert_eq!(sheet.rows, 10);
        assert_eq!(
            sheet.sales,
            Tally { rows: 6, money: Exact(2_550_000 * 7 + 3_000_000 + 1_000 - 5_000_000) }
        );
        assert_eq!(sheet.placeable, Tally { rows: 3, money: Exact(2_550_000 * 7 + 3_000_000) });
        assert_eq!(sheet.placeable.money.0 + sheet.skipped_sales().0, sheet.sales.money.0);
        let skipped: Vec<_> = sheet.skipped.iter().map(|(reason, tally)| (*reason, tally.rows)).collect();
        assert_eq!(
            skipped,
            [
                (Skip::ZeroPrice, 1),
                (Skip::NegativePrice, 1),
                (Skip::SubPennyPrice, 1),
                (Skip::NothingToReturnTo, 1),
                (Skip::Unreadable, 1)
            ]
        );
        assert_eq!(sheet.returns.len(), 2);
        let skipped_rows: u64 = skipped.iter().map(|(_, rows)| rows).sum();
        assert_eq!(sheet.placeable.rows + skipped_rows + sheet.returns.len() as u64, sheet.rows);
    }

    /// The first invoice's rows do not stand together, and its first row's date counts.
    #[test]
    fn rows_are_gathered_by_invoice() {
        let sheet = sheet(
            "1,A,Lamp,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n\
             2,A,Lamp,1,2010-12-01 09:00:00,2.55,,France\n\
             1,A,Lamp,4,2010-12-01 08:27:00,2.55,17850.0,United Kingdom\n\
             1,A,Lamp,1,2010-12-01 08:27:00,2.95,17850.0,United Kingdom\n",
        );
        let numbers: Vec<_> = sheet.invoices.iter().map(|invoice| invoice.number.as_str()).collect();
        assert_eq!(numbers, ["1", "2"]);
        let first = &sheet.invoices[0];
        assert_eq!(
            first.lines,
            [Line { code: 0, pennies: 255, quantity: 10 }, Line { code: 0, pennies: 295, quantity: 1 }]
        );
        assert_eq!((first.rows, first.pennies(), first.customer.as_deref()), (3, 2_845, Some("17850")));
        assert_eq!(first.date.to_rfc3339(), "2010-12-01T08:26:00+00:00");
        assert_eq!(sheet.invoices[1].customer, None);
    }

    #[test]
    fn the_usual_price_comes_first() {
        let sheet = sheet(
            "1,A,LAMP,1,2010-12-01 08:26:00,2.95,,France\n\
             2,A,Lamp,1,2010-12-01 08:26:00,2.55,,France\n\
             3,A,Lamp,1,2010-12-01 08:26:00,2.55,,France\n\
             C4,A,Lamp,-1,2010-12-01 08:26:00,1.00,,France\n",
        );
        let code = &sheet.codes[0];
        assert_eq!(code.prices().collect::<Vec<_>>(), [255, 295]);
        assert_eq!(code.name(), "Lamp");
        assert_eq!(code.price_of_return(Some(295)), Some(295));
        assert_eq!(code.price_of_return(Some(100)), Some(255));
        assert_eq!(code.price_of_return(None), Some(255));
    }

    #[test]
    fn a_column_that_is_missing_is_named() {
        let reader = Box::new(std::io::Cursor::new("InvoiceNo,StockCode\n"));
        let error = Sheet::read(reader, |_| {}).expect_err("wrong").to_string();
        assert!(error.contains("Description"), "{error}");
    }
}
