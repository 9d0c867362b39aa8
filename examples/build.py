"""Make the PDF and the DOCX of the example documents: ``python examples/build.py`` (needs the ``test`` extra).

Their text stands here; the other examples are plain files. Lines that start with ``#`` are headings, with ``|`` table rows.
"""

from __future__ import annotations

from pathlib import Path

import docx
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

FOLDER = Path(__file__).parent / "documents"

BOILER = (
    """# Warmhalt 24 gas condensing boiler: user manual
This manual is for the people who live with the boiler. It explains daily use, the display, the error codes and what you may do yourself. Work on the gas side, on the flue and inside the casing is for a qualified heating engineer only.
# 1. Safety
If you smell gas, do not operate any switch. Open the windows, close the gas cock below the boiler, leave the house and call the gas emergency service from outside.
Never cover the air inlet on the outer wall. Keep 30 cm of free space in front of the casing. Do not store solvents or aerosols in the same room.
# 2. The boiler at a glance
The Warmhalt 24 has a heating output of 4.8 to 24 kW and heats domestic hot water through a plate heat exchanger at up to 11 litres per minute. It runs on natural gas. The electric connection is 230 V with a 3 A fuse. The casing is 72 cm high, 40 cm wide and weighs 33 kg empty.
The display shows the flow temperature in normal operation. The left knob sets the heating flow temperature, the right knob sets the hot water temperature. The reset button is the one with the crossed-out flame.""",
    """# 3. Water pressure
When the system is cold, the pressure gauge should show 1.3 bar. While the heating runs the pressure may rise to 2.0 bar; that is normal. Below 0.8 bar the boiler switches itself off and shows E4. At 3.0 bar the safety valve opens and lets water out.
# 3.1 Filling up
Switch the boiler off and let it cool for 30 minutes. Connect the filling hose to the tap under the boiler. Open the blue filling valve slowly until the gauge shows 1.3 bar, then close it and remove the hose. Switch the boiler on again. If you have to fill up more than twice a year, have the system checked for leaks.
# 3.2 Bleeding radiators
Bleed the radiators every autumn, beginning with the one nearest to the boiler and ending on the top floor. Afterwards check the pressure and fill up if it fell below 1.0 bar.
# 4. Temperatures
Set the heating flow temperature to 55 degrees in spring and autumn and to 65 degrees in frost. With underfloor heating never go above 40 degrees. Set the hot water to 50 degrees; once a week the boiler heats it to 60 degrees against legionella, on Sundays at 3:00.
Frost protection starts the burner by itself when the flow temperature falls below 5 degrees. It works only while the boiler has power and gas.""",
    """# 5. Error codes
The display blinks when a fault is present. Note the code before you press reset. Press reset for two seconds; do so three times an hour at most.
|Code|Meaning|What to do
|E1|No flame after three ignition attempts|Check that the gas cock is open, then press reset.
|E2|Flame lost during operation|Press reset; if it returns within a day, call the engineer.
|E3|Overheating: flow above 95 degrees|Wait 20 minutes until it has cooled, open the radiator valves, then press reset.
|E4|Water pressure below 0.8 bar|Fill up to 1.3 bar as in section 3.1.
|E5|Flow temperature sensor defective|Call the engineer; the boiler does not heat.
|E6|Fan does not reach its speed|Check that the air inlet is free, then press reset.
|E7|Condensate drain blocked or frozen|Thaw the pipe with warm (not boiling) water.
|E8|Hot water sensor defective|Heating still works; call the engineer.
|E9|Control board fault|Switch off the power for one minute; if E9 returns, call the engineer.
# 5.1 Other trouble
Gurgling radiators mean air in the system: bleed them. A short bang at ignition must be looked at by an engineer the same day. Steam from the flue in cold weather is normal.""",
    """# 6. Care and service
Have the boiler serviced by a qualified engineer every 12 months, best in September. The service takes about 90 minutes and covers the burner, the ignition electrode, the condensate trap and the flue gas values. The ignition electrode is replaced every 24 months. The expansion vessel is checked for its pre-charge of 0.75 bar.
Clean the casing with a damp cloth only. Check the condensate pipe before the first frost.
# 7. Guarantee
The guarantee is 5 years on the heat exchanger and 2 years on all other parts, on the condition that every yearly service is entered in the log on the inside of the front flap.
# 8. Long absence
In summer turn the left knob to the sun symbol: hot water only. When you are away in winter, leave the boiler on and set the room thermostat to 12 degrees. If you drain the system, a qualified engineer has to fill it again with treated water of pH 8.2 to 10.0.
# 9. Disposal
The packaging is cardboard and wood and can be recycled. Take the old boiler to the municipal collection point; it contains electronic parts.""",
)

LEASE = """# Lease agreement
between the owner of the house at 14 Linden Lane (the landlord) and the undersigned (the tenant), made on 3 March 2025.
# 1. The flat
The landlord lets the flat on the second floor, left, to the tenant for living in. It has three rooms, a kitchen, a bathroom with a tub, a balcony and cellar compartment number 7. The living area is 74 square metres. The tenant receives 3 keys to the front door, 2 to the flat and 1 to the letter box. Lost keys must be reported at once; the tenant bears the cost of a new lock if misuse cannot be ruled out.
# 2. Begin and end
The lease begins on 1 April 2025 and runs for an unlimited time. The tenant may give notice in writing with a notice period of three months to the end of a calendar month. For the landlord the notice period is also three months and becomes six months after five years and nine months after eight years. Notice by e-mail is not valid.
# 3. Rent
|Item|Amount per month
|Basic rent|840 euros
|Advance payment for heating and hot water|95 euros
|Advance payment for other running costs|110 euros
|Total|1,045 euros
The rent is due on the third working day of each month, in advance, to the account named in the annex. The basic rent may be raised once every 15 months at most, and not by more than 15 per cent within three years.
# 4. Heating and running costs
Heating costs are billed once a year: 70 per cent by consumption as read from the meters, 30 per cent by living area. The billing period ends on 30 June and the statement reaches the tenant by 31 December at the latest. Other running costs are property tax, water, refuse collection, cleaning of the stairs, garden care, lighting of common rooms and insurance of the building. They are shared by living area.
The landlord keeps the heating at a level that allows 20 degrees in living rooms between 6:00 and 23:00 from October to April.
# 5. Deposit
The tenant pays a deposit of 2,520 euros, which is three basic rents. It may be paid in three equal monthly instalments, the first at the beginning of the lease. The landlord keeps it in a separate savings account and returns it with interest within six months after the flat has been handed back.
# 6. Pets
Small animals such as hamsters, birds and fish may be kept without asking. Cats and dogs need the written consent of the landlord, which may only be refused for an important reason. One cat is permitted from the beginning of this lease.
# 7. Repairs
The tenant reports damage without delay. Small repairs to taps, switches, locks and window handles are borne by the tenant up to 100 euros each and 300 euros a year in all. The landlord bears everything beyond that, including the yearly service of the boiler.
# 8. House rules
Quiet hours are from 22:00 to 6:00 and from 13:00 to 15:00. Bicycles stand in the yard or in the cellar, never in the stairwell. Barbecues with charcoal are not allowed on balconies. The stairs are cleaned by a company every Friday. The washing machine in the cellar may be used from 7:00 to 21:00.
# 9. Changes to the flat
Holes for shelves and pictures are fine in the usual number. Painting in light colours needs no consent. Changes to walls, floors and wiring do. At the end of the lease the flat is handed back swept and with all keys; it need not be painted if the last painting was less than five years ago.
# 10. Subletting
A part of the flat may be sublet with the consent of the landlord. Guests may stay for up to six weeks without asking."""


def boiler_flowables() -> list[Flowable]:
    """The manual, one page per part."""
    styles = getSampleStyleSheet()
    found: list[Flowable] = []
    for part in BOILER:
        rows: list[list[Paragraph]] = []
        for line in [*part.splitlines(), ""]:
            if line.startswith("|"):
                rows.append([Paragraph(cell, styles["BodyText"]) for cell in line[1:].split("|")])
                continue
            if rows:
                found += [Table(rows, colWidths=[1.5 * cm, 6 * cm, 9 * cm]), Spacer(1, 12)]
                rows = []
            if line.startswith("# "):
                found.append(Paragraph(line[2:], styles["Heading2"]))
            elif line:
                found.append(Paragraph(line, styles["BodyText"]))
        found.append(PageBreak())
    return found


def build_boiler(file: Path) -> None:
    SimpleDocTemplate(str(file), pagesize=A4, title="Boiler manual", invariant=1).build(boiler_flowables())


def build_lease(file: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "Lease agreement"
    table = None
    for line in LEASE.splitlines():
        if line.startswith("|"):
            table = table or document.add_table(rows=0, cols=2)
            for cell, text in zip(table.add_row().cells, line[1:].split("|"), strict=True):
                cell.text = text
            continue
        table = None
        if line.startswith("# "):
            document.add_heading(line[2:], level=2 if line[2].isdigit() else 1)
        else:
            document.add_paragraph(line)
    document.save(str(file))


if __name__ == "__main__":
    build_boiler(FOLDER / "boiler-manual.pdf")
    build_lease(FOLDER / "lease.docx")
