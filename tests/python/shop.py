"""A market to look at: a file of invoices in the form of the UCI data set, imported by the real binary, and a server with a
few buyers on it. Keeps its own books of what happened, so that figures taken from the log can be checked against them."""

import csv
import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import combinations

PASSWORD = "correct horse battery"
COUNTRIES = ["United Kingdom", "France", "EIRE", "Germany"]
GOODS = ["LANTERN", "TEACUP", "BUNTING", "CAKE STAND", "JAM JAR", "DOORMAT", "PARASOL", "LUNCH BAG", "CLOCK", "SPOON"]


class Invoices:
    """The file, and what is in it."""

    def __init__(self, path, seed=20260711, invoices=160):
        self.revenue = defaultdict(lambda: [0, 0])  # (day, country) → orders, pennies
        self.orders = 0
        self.pairs, self.single = Counter(), Counter()
        self.months = Counter()
        chance = random.Random(seed)
        with open(path, "w", newline="") as file:
            write = csv.writer(file).writerow
            write("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country".split(","))
            when = datetime(2010, 12, 1, 8, 26)
            for number in range(536365, 536365 + invoices):
                when += timedelta(minutes=chance.randrange(10, 900))
                customer = chance.choice(["", *(f"{id}.0" for id in range(17850, 17880))])
                country = chance.choice(COUNTRIES)
                invoice = (write, number, when, customer, country)
                if chance.random() < 0.08:
                    self._row(*invoice, chance.randrange(10), -1, 295, prefix="C")
                    continue
                self._sale(chance, invoice)

    def _sale(self, chance, invoice):
        goods, total = set(), 0
        for good in chance.choices(range(len(GOODS)), weights=range(10, 0, -1), k=chance.randrange(1, 6)):
            quantity, pennies = chance.randrange(1, 25), chance.choice([85, 295, 295, 1250])
            if chance.random() < 0.05:
                pennies = 0  # a gift, which is no sale
            self._row(*invoice, good, quantity, pennies)
            if pennies:
                goods.add(GOODS[good])
                total += quantity * pennies
        if goods:
            when, country = invoice[2], invoice[4]
            sold = self.revenue[when.date(), country]
            sold[0] += 1
            sold[1] += total
            self.orders += 1
            self.months[f"{when:%Y-%m}"] += 1
            self.single.update(goods)
            self.pairs.update(combinations(sorted(goods), 2))

    @staticmethod
    def _row(write, number, when, customer, country, good, quantity, pennies, prefix=""):
        price = f"{pennies // 100}.{pennies % 100:02}"
        write([f"{prefix}{number}", f"{22000 + good}", GOODS[good], f"{quantity}.0", when, price, customer, country])


class Souk:
    """The program on a data directory, and a server of it."""

    def __init__(self, binary, data):
        self.binary, self.data = binary, data
        self.log = f"{data}.log"
        self.server = None

    def run(self, *arguments, **options):
        command = [self.binary, *map(str, arguments), "--data-dir", self.data]
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert done.returncode == 0, f"souk {arguments} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, *options):
        listen, metrics = free_address(), free_address()
        self.address = f"http://{listen}"
        log = open(self.log, "w")
        command = [self.binary, "serve", "--listen", listen, "--metrics-listen", metrics, "--data-dir", self.data]
        self.server = subprocess.Popen([*command, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.until(lambda: self.call("GET", "/readyz")[0] == 200)

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.terminate()
            assert self.server.wait(60) == 0, open(self.log).read()

    def until(self, holds, patience=60):
        end = time.monotonic() + patience
        while not holds():
            assert self.server.poll() is None and time.monotonic() < end, open(self.log).read()[-5000:]
            time.sleep(0.05)

    def call(self, method, path, body=None, token=None, **headers):
        request = urllib.request.Request(self.address + path, method=method)
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name, value)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")
        except OSError as error:
            return 0, str(error)

    def get(self, *arguments, expect=200, **headers):
        return self._expect(expect, "GET", *arguments, **headers)

    def post(self, *arguments, expect=200, **headers):
        return self._expect(expect, "POST", *arguments, **headers)

    def patch(self, *arguments, expect=200, **headers):
        return self._expect(expect, "PATCH", *arguments, **headers)

    def _expect(self, status, method, path, *arguments, **headers):
        got, body = self.call(method, path, *arguments, **headers)
        assert got == status, f"{method} {path}: {got} {body}"
        return body

    def join(self, name, role):
        email = f"{name}@example.com"
        account = {"email": email, "password": PASSWORD, "displayName": name, "role": role}
        self.post("/v1/accounts", account, expect=201)
        return self.log_in(email)

    def appoint(self, name, role):
        email = f"{name}@example.com"
        self.run("account", "create", "--email", email, "--role", role, input=PASSWORD + "\n")
        return self.log_in(email)

    def log_in(self, email):
        return self.post("/v1/sessions", {"email": email, "password": PASSWORD}, expect=201)["accessToken"]

    def fill(self, buyer, item, quantity):
        return self.patch("/v1/cart", {"itemId": item, "quantity": quantity}, buyer)

    def buy(self, buyer, item, quantity, card="4242424242424242"):
        """Waits for the end of the checkout."""
        cart = self.fill(buyer, item, quantity)
        payment = {"paymentType": "card", "cardNo": card, "expiry": "12/2099", "cvc": "123"}
        address = {"name": "Ada", "line1": "1 Mill Lane", "city": "Cambridge", "postalCode": "CB2 1RX", "country": "GB"}
        body = {"cartId": cart["cartId"], "amount": cart["total"], "paymentInfo": payment, "shippingAddress": address}
        return self.post("/v1/checkout", body, buyer, Prefer="wait=30")


class Fair:
    """A morning at the market, over HTTP: sold, sold out, turned away, restocked, left in the cart."""

    PRICE = 4900

    def __init__(self, souk):
        seller, self.analyst = souk.join("sam", "seller"), souk.appoint("ana", "analyst")
        listing = {"sku": "lamp", "name": "Desk lamp", "price": {"amount": 5000, "currency": "USD"}, "quantity": 3}
        self.item = souk.post("/v1/items", listing, seller, expect=201)["itemId"]
        price = {"price": {"amount": self.PRICE, "currency": "USD"}}
        souk.patch(f"/v1/items/{self.item}", price, seller)
        buyers = {name: souk.join(name, "buyer") for name in ["bea", "bob", "ben", "bel", "bud"]}
        first = souk.buy(buyers["bea"], self.item, 2)
        ends = [
            (first, "completed", None),
            (souk.buy(buyers["bob"], self.item, 2), "cancelled", "outOfStock"),  # one is left
            (souk.buy(buyers["ben"], self.item, 1, card="4000000000000002"), "cancelled", "paymentDeclined"),
            (souk.buy(buyers["ben"], self.item, 1), "completed", None),  # the last one
            (souk.buy(buyers["bel"], self.item, 1), "cancelled", "outOfStock"),
        ]
        for order, status, reason in ends:
            assert (order["status"], order.get("reason")) == (status, reason), order
        souk.post(f"/v1/items/{self.item}/stock", {"change": 4, "reason": "delivery"}, seller)
        souk.fill(buyers["bud"], self.item, 1)  # and goes home
        self.order = first["orderId"]
        self.completed, self.orders = 2, 5
        # bea, bob, ben twice (his lines were put back), bel, bud; and bob's and bel's lines were put back, too.
        self.carts = 8
        self.turned_away = ("lamp", 2, (2 - 1) + (1 - 0))
        # While ben's card was looked at the last one was reserved; then it was sold, until the delivery.
        self.stock_outs = 2


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "%s:%d" % listener.getsockname()


def environment(souk):
    return {**os.environ, "SOUK_DATA_DIR": souk.data, "SOUK": souk.address}
